"""Writes noise_diffusers.json: what diffusers' own scheduler classes say about time, noise level and timestep.

Needs diffusers and torch. Run `python tests/engine/golden/make_noise.py`. Discrete tables (but CogVideoX's) are float32
in diffusers, so the comparison's tolerance is float32's, grown by the 1000 factors of a cumulative product.
"""

import json
import math
import pathlib

import numpy as np
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)


def spread(count):
    """First two, last two and 20 between."""
    inner = np.linspace(0, count - 1, 20).round().astype(int).tolist()
    return sorted({0, 1, count - 2, count - 1, *inner})


def number(value):
    return None if not math.isfinite(value) else float(f"{value:.9g}")


def discrete(name, noise, scheduler):
    alphas = scheduler.alphas_cumprod.double().numpy()
    rows = []
    for n in spread(len(alphas)):
        # EulerDiscrete stands in 2^-24 for the zero of a zero-terminal-SNR table; DDIM keeps the zero.
        sigma = math.sqrt((1 - alphas[n]) / alphas[n]) if alphas[n] > 0 else math.inf
        rows.append({"t": (n + 1) / len(alphas), "sigma": number(sigma), "timestep": float(n)})
    return {"name": name, "noise": noise, "rows": rows}


def betas(kind, start, end, steps=1000, **extra):
    return {"kind": kind, "beta_start": start, "beta_end": end, "steps": steps, **extra}


def flow(name, shift, scheduler, **times):
    """Times before the shift, and the sigmas and timesteps the scheduler makes of them."""
    t = np.linspace(0.999, 0.001, 21)
    scheduler.set_timesteps(sigmas=t.tolist(), **times)
    rows = [
        {"t": float(t[i]), "sigma": number(float(scheduler.sigmas[i])), "timestep": number(float(scheduler.timesteps[i]))}
        for i in range(len(t))
    ]
    return {"name": name, "noise": {"kind": "flow", "shift": shift, "steps": 1000}, "rows": rows}


def edm():
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0)
    scheduler.set_timesteps(20)
    root = lambda sigma: sigma ** (1 / 7)
    rows = []
    for sigma, timestep in zip(scheduler.sigmas[:-1].double().tolist(), scheduler.timesteps.tolist()):
        t = (root(sigma) - root(0.002)) / (root(80.0) - root(0.002))
        rows.append({"t": t, "sigma": number(sigma), "timestep": number(timestep)})
    return {"name": "edm", "noise": {"kind": "edm", "sigma_min": 0.002, "sigma_max": 80.0}, "rows": rows}


SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TRAINED = [float(f"{b:.6f}") for b in np.linspace(0.01, 0.5, 20) ** 1.5]

tables = [
    discrete("sd", betas("scaled_linear", 0.00085, 0.012), DDIMScheduler(**SD)),
    discrete("ddpm", betas("linear", 0.0001, 0.02), DDIMScheduler()),
    discrete("cosine", {"kind": "squaredcos_cap_v2", "steps": 1000}, DDIMScheduler(beta_schedule="squaredcos_cap_v2")),
    discrete(
        "sd-zsnr",
        betas("scaled_linear", 0.00085, 0.012, rescale_betas_zero_snr=True),
        DDIMScheduler(rescale_betas_zero_snr=True, **SD),
    ),
    discrete(
        "cogvideox",
        betas("scaled_linear", 0.00085, 0.012, rescale_betas_zero_snr=True, snr_shift_scale=3.0),
        CogVideoXDDIMScheduler(rescale_betas_zero_snr=True),
    ),
    discrete(
        "kolors",
        betas("scaled_linear", 0.00085, 0.014, 1100),
        EulerDiscreteScheduler(
            num_train_timesteps=1100, beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear"
        ),
    ),
    discrete(
        "hunyuan-dit",
        betas("scaled_linear", 0.00085, 0.03),
        DDIMScheduler(beta_start=0.00085, beta_end=0.03, beta_schedule="scaled_linear"),
    ),
    discrete(
        "trained",
        {"kind": "trained_betas", "betas": TRAINED},
        DDIMScheduler(num_train_timesteps=20, trained_betas=TRAINED),
    ),
    flow("sd3", 3.0, FlowMatchEulerDiscreteScheduler(shift=3.0)),
    flow("flux", math.exp(1.15), FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), mu=1.15),
    flow(
        "linear-dynamic",
        0.75,
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"),
        mu=0.75,
    ),
    edm(),
]
path = pathlib.Path(__file__).with_name("noise_diffusers.json")
path.write_text("[\n" + ",\n".join(json.dumps(table) for table in tables) + "\n]\n")
print(f"{path}: {len(tables)} tables")
