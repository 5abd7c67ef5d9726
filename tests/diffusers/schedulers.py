#!/usr/bin/env python3
"""Runs diffusers' own schedulers on custom schedules and keeps the samples for `tests/engine/solver_parity.rs`.

    pip install -r tests/diffusers/requirements.txt
    tests/diffusers/schedulers.py            writes tests/engine/golden/diffusers_schedulers.json
    tests/diffusers/schedulers.py --check    compares that file with what the installed diffusers does

Schedulers whose API takes no custom schedule get their tables (timesteps, sigmas, alphas) set directly. The network is exact:
the posterior mean of a Gaussian mixture, turned into what the scheduler's prediction type expects. diffusers computes some tables
and steps in float32; `doubled` makes that float64, so that the comparison can be sharp. Nothing else of a scheduler is touched.
"""

import json
import math
import pathlib
import sys

import diffusers
import numpy as np
import torch

GOLDEN = pathlib.Path(__file__).parents[1] / "engine" / "golden" / "diffusers_schedulers.json"

SHAPE = (2, 3)  # two samples of three numbers
MIXTURE = {
    "weights": [0.5, 0.3, 0.2],
    "means": [[1.0, -0.5, 0.25], [-1.25, 0.5, 0.75], [0.25, 1.5, -1.0]],
    "deviations": [0.3, 0.2, 0.4],
}
# DEIS has no clean end of its own (its steps to sigma = 0 are 0 times infinity): this stands for it.
NEARLY_CLEAN = 1e-15


class Doubled:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, "float64" if name == "float32" else name)


def doubled(scheduler_class):
    module = sys.modules[scheduler_class.__module__]
    module.torch = Doubled(torch)
    if hasattr(module, "np"):
        module.np = Doubled(np)
    return scheduler_class


def posterior_mean(x, alpha, sigma):
    """E[x_0 | x] of the mixture, row by row."""
    means = torch.tensor(MIXTURE["means"])
    variances = torch.tensor(MIXTURE["deviations"]) ** 2
    total = alpha**2 * variances + sigma**2
    gaps = x[:, None, :] - alpha * means
    logits = torch.tensor(MIXTURE["weights"]).log() - 1.5 * total.log() - (gaps**2).sum(-1) / (2 * total)
    of_component = means + (alpha * variances / total)[:, None] * gaps
    return (logits.softmax(-1)[..., None] * of_component).sum(1)


def network(prediction, x, alpha, sigma):
    """What a network of this kind says at the state `x`."""
    x0 = posterior_mean(x, alpha, sigma)
    if prediction == "sample":
        return x0
    noise = (x - alpha * x0) / sigma
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        return alpha * noise - sigma * x0
    if prediction == "flow_prediction":
        return noise - x0
    if prediction == "edm":
        norm = sigma**2 + 0.25
        return (x0 - 0.25 / norm * x) / (0.5 * sigma / math.sqrt(norm))
    raise ValueError(prediction)


# Schedules: (timestep, alpha, sigma) from noisy to clean, a start, and noise for whoever asks for it.


def scaled_linear(timestep):
    """Stable Diffusion's levels; `ln(alpha)` is linear between training timesteps."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    log_alpha = np.interp(timestep, np.arange(1000), 0.5 * np.cumsum(np.log1p(-betas)))
    rho = math.sqrt(math.expm1(-2 * log_alpha))
    alpha = 1 / math.sqrt(1 + rho**2)
    return [timestep, alpha, rho * alpha]


def straight(sigma):
    return [1000 * sigma, 1 - sigma, sigma]


def edm(sigma):
    return [0.25 * math.log(sigma), 1.0, sigma]


CLEAN = [0.0, 1.0, 0.0]


def karras(high, low, points):
    ramp = np.linspace(0, 1, points)
    return ((high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7).tolist()


def schedule(family, levels):
    draws = np.random.default_rng(len(levels)).standard_normal((len(levels), *SHAPE)).round(6)
    start = levels[0][2] * draws[0] + levels[0][1] * np.array(MIXTURE["means"])[:2]
    return {
        "family": family,
        "levels": levels,
        "start": start.flatten().tolist(),
        "noises": draws[1:].reshape(len(levels) - 1, -1).tolist(),
    }



def uneven(steps):
    return [scaled_linear(round(985 * (1 - k / steps) ** 1.3 + 9.25, 4)) for k in range(steps + 1)]


SCHEDULES = {
    "vp-4-t_min": schedule("vp", [scaled_linear(t) for t in (999.0, 695.5, 421.25, 162.0, 12.0)]),
    "vp-5-denoise": schedule("vp", [*(scaled_linear(t) for t in (958.6, 723.0, 480.75, 251.5, 31.0)), CLEAN]),
    "vp-7-t_min": schedule("vp", [scaled_linear(t) for t in (979.0, 850.0, 680.5, 470.0, 310.0, 150.5, 60.0, 9.0)]),
    "vp-8-denoise": schedule(
        "vp", [*(scaled_linear(t) for t in (999.0, 907.0, 755.0, 590.5, 433.0, 271.0, 111.1, 0.0)), CLEAN]
    ),
    # Below 15 steps diffusers lowers the order of the last ones.
    "vp-14-t_min": schedule("vp", uneven(14)),
    "vp-15-t_min": schedule("vp", uneven(15)),
    "vp-14-denoise": schedule("vp", [*uneven(13), CLEAN]),
    "vp-15-denoise": schedule("vp", [*uneven(14), CLEAN]),
    "flow-5-t_min": schedule("flow", [straight(s) for s in (0.9975, 0.93, 0.8, 0.55, 0.26, 0.03)]),
    "flow-6-denoise": schedule("flow", [*(straight(s) for s in (0.999, 0.96, 0.88, 0.7, 0.45, 0.12)), CLEAN]),
    "flow-4-nudged": schedule("flow", [*(straight(s) for s in (1 - 1e-6, 0.9, 0.75, 0.5)), CLEAN]),
    "flow-4-noise": schedule("flow", [*(straight(s) for s in (1.0, 0.9, 0.75, 0.5)), CLEAN]),
    "flow-16-denoise": schedule("flow", [*(straight(s) for s in np.linspace(0.998, 0.05, 16).tolist()), CLEAN]),
    "edm-6-denoise": schedule("edm", [*(edm(s) for s in karras(80.0, 0.05, 6)), CLEAN]),
    "edm-7-t_min": schedule("edm", [edm(s) for s in karras(60.0, 0.1, 8)]),
    "edm-16-denoise": schedule("edm", [*(edm(s) for s in karras(80.0, 0.02, 16)), CLEAN]),
}


# Schedulers: each function returns one with its tables set, and how its states are scaled.


def rhos(levels, last=None):
    """Noise levels of EDM's scaling, or flow matching's own, as float64."""
    flow = all(abs(alpha + sigma - 1) < 1e-12 for _, alpha, sigma in levels)
    sigmas = [sigma if flow else sigma / alpha for _, alpha, sigma in levels]
    if last is not None and sigmas[-1] == 0.0:
        sigmas[-1] = last
    return torch.tensor(sigmas)


def with_tables(scheduler, levels, sigmas, timesteps=None):
    steps = len(levels) - 1
    scheduler.set_timesteps(steps)
    scheduler.sigmas = sigmas
    scheduler.timesteps = torch.tensor([level[0] for level in levels[:-1]]) if timesteps is None else timesteps
    scheduler.num_inference_steps = len(scheduler.timesteps)
    scheduler.is_scale_input_called = True
    scheduler.set_begin_index(0)
    return scheduler


def config(prediction, flow):
    return {
        "prediction_type": prediction,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        **({"use_flow_sigmas": True} if flow else {}),
    }


def ddim(family, levels, prediction, solver):
    if family == "flow":
        return flow_euler(diffusers.FlowMatchEulerDiscreteScheduler, levels), 1
    if family == "edm":
        return with_tables(doubled(diffusers.EDMEulerScheduler)(), levels, rhos(levels)), 1
    # Its tables are indexed by whole timesteps, so it gets a training grid of these levels, the last one as its end.
    steps = len(levels) - 1
    scheduler = doubled(diffusers.DDIMScheduler)(
        num_train_timesteps=steps, prediction_type=prediction, clip_sample=False
    )
    scheduler.set_timesteps(steps)
    scheduler.timesteps = torch.arange(steps - 1, -1, -1)
    products = torch.tensor([alpha**2 for _, alpha, _ in levels])
    scheduler.alphas_cumprod = products[:-1].flip(0)
    scheduler.final_alpha_cumprod = products[-1]
    return scheduler, 1


def flow_euler(scheduler_class, levels):
    return with_tables(doubled(scheduler_class)(), levels, rhos(levels))


def heun(family, levels, prediction, solver):
    sigmas = rhos(levels)
    sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    timesteps = torch.tensor([level[0] for level in levels])
    # Two evaluations an interval, one for a last interval that ends clean.
    timesteps = torch.cat([timesteps[:1], timesteps[1:-1].repeat_interleave(2), timesteps[-1:]])
    if levels[-1][2] == 0.0:
        timesteps = timesteps[:-1]
    if family == "flow":
        scheduler = doubled(diffusers.FlowMatchHeunDiscreteScheduler)()
        return with_tables(scheduler, levels, sigmas, timesteps), 1
    scheduler = doubled(diffusers.HeunDiscreteScheduler)(**config(prediction, False))
    return with_tables(scheduler, levels, sigmas, timesteps), "alpha"


def dpmsolver(family, levels, prediction, solver):
    options = {
        "solver_order": 3 if solver["kind"] == "dpmpp3m" else 2,
        "algorithm_type": "sde-dpmsolver++" if solver["kind"] == "sde_dpmpp2m" else "dpmsolver++",
        "final_sigmas_type": "zero" if levels[-1][2] == 0.0 else "sigma_min",
    }
    if family == "edm":
        scheduler = doubled(diffusers.EDMDPMSolverMultistepScheduler)(**options)
    else:
        scheduler = doubled(diffusers.DPMSolverMultistepScheduler)(**config(prediction, family == "flow"), **options)
    return with_tables(scheduler, levels, rhos(levels)), 1


def unipc(family, levels, prediction, solver):
    scheduler = doubled(diffusers.UniPCMultistepScheduler)(
        **config(prediction, family == "flow"),
        solver_order=solver["order"],
        solver_type=solver["variant"],
        disable_corrector=[] if solver["corrector"] else list(range(len(levels))),
    )
    return with_tables(scheduler, levels, rhos(levels)), 1


def deis(family, levels, prediction, solver):
    scheduler = doubled(diffusers.DEISMultistepScheduler)(
        **config(prediction, family == "flow"), solver_order=solver["order"]
    )
    return with_tables(scheduler, levels, rhos(levels, NEARLY_CLEAN)), 1


def ipndm(family, levels, prediction, solver):
    """Knows order 4 only; the caller forgets slopes for it to do less. Expects `v`, though nothing says so."""
    scheduler = doubled(diffusers.IPNDMScheduler)()
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.alphas = torch.tensor([alpha for _, alpha, _ in levels])
    scheduler.betas = torch.tensor([sigma for _, _, sigma in levels])
    scheduler.timesteps = torch.tensor([level[0] for level in levels[:-1]])
    scheduler.set_begin_index(0)
    return scheduler, 1


def euler_ancestral(family, levels, prediction, solver):
    scheduler = doubled(diffusers.EulerAncestralDiscreteScheduler)(**config(prediction, False))
    return with_tables(scheduler, levels, rhos(levels)), "alpha"


MAKERS = {
    "ddim": ddim,
    "heun": heun,
    "dpmpp2m": dpmsolver,
    "dpmpp3m": dpmsolver,
    "sde_dpmpp2m": dpmsolver,
    "unipc": unipc,
    "deis": deis,
    "ipndm": ipndm,
    "euler_ancestral": euler_ancestral,
}


def run(name, solver, prediction):
    entry = SCHEDULES[name]
    family, levels = entry["family"], entry["levels"]
    scheduler, scaling = MAKERS[solver["kind"]](family, levels, prediction, solver)
    scale = lambda level: level[1] if scaling == "alpha" else 1.0
    # The last draw, which a clean end multiplies by zero, is nobody's.
    noises = iter([*entry["noises"], [0.0] * math.prod(SHAPE)])
    module = sys.modules[type(scheduler).__module__]
    module.randn_tensor = lambda *_, **__: torch.tensor(next(noises)).reshape(SHAPE)

    called_at = levels[:-1]
    if solver["kind"] == "heun":
        called_at = [levels[(k + 1) // 2] for k in range(len(scheduler.timesteps))]
    x = torch.tensor(entry["start"]).reshape(SHAPE) / scale(levels[0])
    for timestep, level in zip(scheduler.timesteps, called_at, strict=True):
        if solver["kind"] == "ipndm":
            scheduler.ets = scheduler.ets[len(scheduler.ets) - min(len(scheduler.ets), solver["order"] - 1) :]
        output = network(prediction, x * scale(level), level[1], level[2])
        x = scheduler.step(output, timestep, x).prev_sample
    sample = (x * scale(levels[-1])).flatten()
    assert sample.dtype == torch.float64 and sample.isfinite().all(), (name, solver, prediction, sample)
    return {
        "schedule": name,
        "solver": solver,
        "prediction": prediction,
        "scheduler": type(scheduler).__name__,
        "sample": [float(f"{value:.13g}") for value in sample.tolist()],
    }


def unipc_options(clean):
    """Every order; without `bh1` to a clean end, where diffusers multiplies its infinite B(h) by zero."""
    return [
        {"kind": "unipc", "order": order, "variant": variant, "corrector": corrector}
        for order in (1, 2, 3)
        for variant in (["bh2"] if clean else ["bh1", "bh2"])
        for corrector in (True, False)
    ]


def runs():
    simple = [{"kind": kind} for kind in ("ddim", "heun", "dpmpp2m", "dpmpp3m", "sde_dpmpp2m")]
    for name, entry in SCHEDULES.items():
        family, clean = entry["family"], entry["levels"][-1][2] == 0.0
        solvers = list(simple)
        if family != "flow":
            solvers.append({"kind": "euler_ancestral"})
        if family != "edm" and name != "flow-4-noise":
            solvers += unipc_options(clean)
            solvers += [{"kind": "deis", "order": order} for order in (1, 2, 3)]
        prediction = {"vp": "epsilon", "flow": "flow_prediction", "edm": "edm"}[family]
        for solver in solvers:
            in_alpha = family == "edm" and solver["kind"] in ("heun", "euler_ancestral")
            yield name, solver, "epsilon" if in_alpha else prediction
        if family == "vp":
            for order in (1, 2, 3, 4):
                yield name, {"kind": "ipndm", "order": order}, "v_prediction"
        if name in ("vp-5-denoise", "vp-7-t_min"):
            for solver in solvers:
                yield name, solver, "v_prediction"
                if solver["kind"] != "euler_ancestral":
                    yield name, solver, "sample"


def text(golden):
    """One line a schedule and a run."""
    schedules = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden["schedules"].items())
    lines = ",\n".join(json.dumps(row) for row in golden["runs"])
    return f'{{"mixture": {json.dumps(golden["mixture"])},\n"schedules": {{\n{schedules}\n}},\n"runs": [\n{lines}\n]}}\n'


def differences(kept, made, path=""):
    """Where two documents differ; numbers by more than 1e-9 of themselves (of 0.1 where they are smaller)."""
    if isinstance(kept, float) and isinstance(made, float):
        if not abs(kept - made) <= 1e-9 * max(abs(kept), abs(made), 0.1):
            yield f"{path}: kept {kept!r}, diffusers {diffusers.__version__} {made!r}"
    elif isinstance(kept, dict) and isinstance(made, dict) and kept.keys() == made.keys():
        for key in kept:
            yield from differences(kept[key], made[key], f"{path}/{key}")
    elif isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
        for index, pair in enumerate(zip(kept, made)):
            yield from differences(*pair, f"{path}/{index}")
    elif kept != made:
        yield f"{path}: kept {kept!r}, made {made!r}"


def main():
    torch.set_default_dtype(torch.float64)
    golden = {"mixture": MIXTURE, "schedules": SCHEDULES, "runs": [run(*arguments) for arguments in runs()]}
    if sys.argv[1:] == ["--check"]:
        found = list(differences(json.loads(GOLDEN.read_text()), golden))
        print(*found[:20], sep="\n", end="\n" if found else "")
        print(f"{len(golden['runs'])} runs, {len(found)} numbers differ from diffusers {diffusers.__version__}")
        sys.exit(1 if found else 0)
    GOLDEN.write_text(text(golden))
    print(f"{GOLDEN}: {len(golden['runs'])} runs of diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main()
