#!/usr/bin/env python3
"""The experiments of docs/experiments.md: runs them, and prints their tables.

    cargo build --release
    python3 -m venv venv && venv/bin/pip install torch diffusers safetensors numpy
    venv/bin/python benches/experiments.py run mixtures fashion frechet
    venv/bin/python benches/experiments.py table

`mixtures` and `fashion` calibrate and measure with fewstep; `frechet` samples the demo denoiser with PyTorch and diffusers'
own schedulers. Every answer and every sample is kept under target/experiments, so that a run goes on where it was stopped
and parts may run side by side. `table` prints the tables from what is there, `figure` draws docs/experiments.svg.
"""

import argparse
import hashlib
import json
import math
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "target" / "experiments"

PUBLISHED = (4, 5, 6, 8)
STEPS = {"unipc": (4, 5, 6, 8, 10), "dpmpp_2m": PUBLISHED, "ddim": (4, 5, 6, 8, 10)}
SOLVERS = ("unipc", "dpmpp_2m", "ddim", "deis", "ipndm")
OBJECTIVES = ("mep", "unipc-bound", "unipc-midpoint")
GAMMAS = ("1e9", 0)
# DM-NonUniform (arXiv 2402.17376): UniPC's bound between the ends of the training noise.
DM = ("--objective", "unipc-bound", "--gamma", 0, "--bounds", "rho=3:16,t_min=0.001:0.001,t_max=1:1")
# Noise of the Frechet distances; fewstep draws its own differently.
SEED, OTHER_SEED = 20261, 20262


# Measured by fewstep


def fewstep(args, *arguments):
    """The program's answer, asked for once."""
    key = " ".join(map(str, arguments))
    name = re.sub(r"[^A-Za-z0-9.]+", "_", key)[:80] + "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
    kept = RESULTS / f"{name}.json"
    if not kept.exists():
        if args.only_kept:
            return None
        start = time.monotonic()
        done = subprocess.run([args.fewstep, *map(str, arguments), "--format", "json"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{key}: {done.stderr}")
        RESULTS.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps({"command": key, "answer": json.loads(done.stdout)}))
        part.rename(kept)
        print(f"{key}: {time.monotonic() - start:.0f} s", flush=True)
    return json.loads(kept.read_text())["answer"]


def request(model, solver, nfe):
    return "--model", model, "--solver", solver, "--nfe", nfe


def effort(samples, validation, budget):
    return "--calibrate", "--samples", samples, "--validation-samples", validation, "--budget", budget


def calibration_effort(model, solver):
    if model != "fashion-mnist":
        return effort(64, 1024, 200)
    return effort(32, 64, 60) if solver == "ddim" else effort(48, 64, 100)


def given(name, sigmas):
    return "--given", f"{name}=" + ",".join(f"{sigma:.9g}" for sigma in sigmas)


def dm_nonuniform(args, model, solver, nfe, terminal="denoise"):
    return fewstep(args, "optimize", *request(model, solver, nfe), *DM, "--terminal", terminal)


def calibration(args, model, solver, nfe):
    """A calibration; DM-NonUniform is measured with the other schedules."""
    dm = dm_nonuniform(args, model, solver, nfe)
    if dm is None:
        return None
    extra = given("dm-nonuniform", dm["sigmas"][:-1])
    answer = fewstep(args, "compare", *request(model, solver, nfe), *calibration_effort(model, solver), *extra)
    return answer and answer["schedule"]


def thorough(args):
    """With the default effort, where other calibrations of the network take less."""
    return fewstep(args, "optimize", *request("fashion-mnist", "unipc", 5), *effort(64, 64, 200))


def measured(args, model, solver, nfe, *options):
    """Errors of every schedule, without refining any."""
    return fewstep(args, "optimize", *request(model, solver, nfe), *effort(4, 512, 0), *options)


def penalty(args, model, objective, gamma, nfe):
    return measured(args, model, "unipc", nfe, "--objective", objective, "--gamma", gamma)


def clean_calibration(args, model, solver, nfe):
    return fewstep(
        args, "optimize", *request(model, solver, nfe), *calibration_effort(model, solver), "--terminal", "denoise"
    )


def matrix_row(args, model, solver, nfe):
    """Errors of one solver on the schedules calibrated for each."""
    extra = []
    for other in SOLVERS:
        answer = clean_calibration(args, model, other, nfe)
        if answer is None:
            return None
        extra += given(f"for-{other}", answer["sigmas"][:-1])
    answer = fewstep(args, "compare", *request(model, solver, nfe), *effort(4, 1024, 0), *extra)
    return answer and answer["schedule"]


def stochastic(args, model, solver, nfe):
    return fewstep(args, "optimize", *request(model, solver, nfe), *effort(64, 512, 200))


def auto(args, model, nfe):
    size = effort(32, 48, 120) if model == "fashion-mnist" else effort(64, 512, 400)
    return fewstep(args, "optimize", *request(model, "auto", nfe), *size)


def run_mixtures(args):
    for solver, steps in STEPS.items():
        for nfe in steps:
            calibration(args, "mixture-64d", solver, nfe)
        for nfe in (5, 8):
            calibration(args, "mixture-2d", solver, nfe)
    for solver in SOLVERS:
        matrix_row(args, "mixture-64d", solver, 6)
    for nfe in (4, 5):
        for objective in OBJECTIVES:
            for gamma in GAMMAS:
                penalty(args, "mixture-64d", objective, gamma, nfe)
    for nfe in (5, 8):
        auto(args, "mixture-64d", nfe)
    for solver in ("sde_dpmpp_2m", "euler_ancestral"):
        for nfe in (6, 10):
            stochastic(args, "mixture-64d", solver, nfe)
    for nfe in PUBLISHED:
        measured(args, "mixture-64d", "unipc", nfe, *DM)
        penalty(args, "mixture-64d", "mep", 0, nfe)


def run_fashion(args):
    for solver, steps in STEPS.items():
        for nfe in steps:
            calibration(args, "fashion-mnist", solver, nfe)
    thorough(args)
    auto(args, "fashion-mnist", 5)


# Measured by diffusers


class Diffusers:
    """The demo denoiser in PyTorch, under diffusers' own schedulers, on noise that fewstep never draws."""

    def __init__(self, args):
        import numpy as np
        import torch

        sys.path[:0] = [str(ROOT / "tests" / "diffusers"), str(ROOT / "models")]
        import schedulers
        import train
        from diffusers import UNet2DModel
        from safetensors.torch import load_file

        torch.set_num_threads(1)
        self.np, self.torch, self.schedulers, self.train, self.args = np, torch, schedulers, train, args
        models = ROOT / "models"
        self.unet = UNet2DModel.from_pretrained(models / "fashion-mnist" / "unet", torch_dtype=torch.float32).eval()
        self.classifier = train.Classifier().float()
        weights = load_file(models / "fashion-mnist-classifier" / "classifier.safetensors")
        self.classifier.load_state_dict({name: value.float() for name, value in weights.items()})
        torch.set_default_dtype(torch.float64)
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.log_alphas = 0.5 * np.cumsum(np.log1p(-betas))

    def level(self, sigma):
        """(timestep, alpha, sigma) of a noise level in EDM's scaling."""
        if sigma == 0.0:
            return [0.0, 1.0, 0.0]
        log_alpha = -0.5 * math.log1p(sigma**2)
        timestep = self.np.interp(-log_alpha, -self.log_alphas, self.np.arange(1000.0))
        return [float(timestep), math.exp(log_alpha), sigma * math.exp(log_alpha)]

    def sample(self, solver, sigmas, samples, seed):
        """Samples at the end of a schedule (its last sigma included, 0 for a clean end), drawn once."""
        key = json.dumps([solver, [round(sigma, 9) for sigma in sigmas], seed])
        kept = RESULTS / "samples" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
        have = self.np.load(kept) if kept.exists() else self.np.zeros((0, 256), "float32")
        if len(have) >= samples:
            return have[:samples]
        if self.args.only_kept:
            return None
        torch, start = self.torch, time.monotonic()
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((2000, 1, 16, 16), generator=generator, dtype=torch.float32)
        batches = [have]
        for first in range(len(have), samples, 50):
            batches.append(self.batch(solver, sigmas, noise[first : min(first + 50, samples)], first))
        made = self.np.concatenate(batches)
        kept.parent.mkdir(parents=True, exist_ok=True)
        self.np.save(kept, made)
        print(f"{solver}, {samples} samples, {len(sigmas) - 1} steps: {time.monotonic() - start:.0f} s", flush=True)
        return made

    def batch(self, solver, sigmas, noise, first):
        torch = self.torch
        labels = (torch.arange(len(noise)) + first) % self.train.CLASSES
        levels = [self.level(sigma) for sigma in sigmas]
        kind = {
            "unipc": {"kind": "unipc", "order": 3, "variant": "bh2", "corrector": True},
            "dpmpp_2m": {"kind": "dpmpp2m"},
            "ddim": {"kind": "ddim"},
            "deis": {"kind": "deis", "order": 2},
            "ipndm": {"kind": "ipndm", "order": 4},
        }[solver]
        prediction = "v_prediction" if solver == "ipndm" else "epsilon"
        scheduler, _ = self.schedulers.MAKERS[kind["kind"]]("vp", levels, prediction, kind)
        x = noise.double()
        with torch.inference_mode():
            for timestep, (at, alpha, sigma) in zip(scheduler.timesteps, levels[:-1], strict=True):
                output = self.unet(x.float(), torch.tensor(at, dtype=torch.float32), class_labels=labels).sample.double()
                if solver == "ipndm":
                    output = alpha * output - sigma * (x - sigma * output) / alpha
                x = scheduler.step(output, timestep, x).prev_sample
        return x.flatten(1).float().numpy()

    def teacher(self, samples, seed):
        """64 steps of UniPC, evenly in log-SNR over all training noise, to a clean end."""
        low, high = (0.5 * math.log(math.expm1(-2 * self.log_alphas[k])) for k in (0, -1))
        sigmas = [math.exp(high + (low - high) * k / 63) for k in range(64)]
        return self.sample("unipc", [*sigmas, 0.0], samples, seed)

    def error(self, solver, sigmas, samples):
        """Mean per-sample RMSE to the fine solve of the same noise, and its standard error."""
        made = self.sample(solver, sigmas, samples, SEED)
        if made is None:
            return None
        difference = made - self.teacher(self.args.images, SEED)[:samples]
        rmse = self.np.sqrt((difference.astype("float64") ** 2).mean(1))
        return float(rmse.mean()), float(rmse.std(ddof=1) / math.sqrt(len(rmse)))

    def features(self, images):
        """Penultimate activations of the classifier."""
        torch = self.torch
        with torch.inference_mode():
            x = torch.from_numpy(images.copy()).float().view(-1, 1, 16, 16).clamp(-1, 1)
            return self.classifier.features(x).double().numpy()

    def frechet(self, a, b):
        np = self.np
        mean = a.mean(0) - b.mean(0)
        cov_a, cov_b = np.cov(a.T), np.cov(b.T)
        values, vectors = np.linalg.eigh(cov_a)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
        return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)

    def distance(self, images, target):
        """Frechet distance of images to a set of features, and its standard deviation over 50 bootstraps of the images."""
        features = self.features(images)
        random = self.np.random.default_rng(0)
        again = [self.frechet(features[random.integers(0, len(features), len(features))], target) for _ in range(50)]
        return self.frechet(features, target), float(self.np.std(again, ddof=1))


def ended(answer):
    """A candidate's or a schedule's sigmas with their last."""
    sigmas = list(answer["sigmas"])
    if answer["terminal"] == "denoise" and sigmas[-1] != 0.0:
        sigmas.append(0.0)
    return sigmas


def candidate(answer, name, terminal):
    for found in answer["calibration"]["candidates"]:
        if (found["name"], found["terminal"]) == (name, terminal):
            return found
    return None


FRECHET = (
    ("hso", "t_min"),
    ("hso", "denoise"),
    ("karras", "denoise"),
    ("exponential", "denoise"),
    ("uniform_t_trailing", "denoise"),
    ("dm-nonuniform", "denoise"),
    ("dm-nonuniform", "t_min"),
    ("best rule", ""),
    ("calibrated", ""),
)


def compared(args, nfe):
    """The schedules whose Frechet distance is taken: (name, terminal, sigmas)."""
    kept = argparse.Namespace(**{**vars(args), "only_kept": True})
    for name, terminal in FRECHET:
        if name == "dm-nonuniform":
            answer = dm_nonuniform(args, "fashion-mnist", "unipc", nfe, terminal)
        elif name == "calibrated":
            answer = calibration(kept, "fashion-mnist", "unipc", nfe)
        elif name == "best rule":
            answer = calibration(kept, "fashion-mnist", "unipc", nfe)
            answer = answer and best_rule(answer)
        elif name == "hso":
            answer = fewstep(args, "optimize", *request("fashion-mnist", "unipc", nfe), "--terminal", terminal)
        else:
            answer = candidate(args.rules[nfe], name, terminal)
        if answer is not None:
            yield name, answer["terminal"], ended(answer)


def penalised(args, objective, gamma, nfe, terminal):
    options = ("--objective", objective, "--gamma", gamma, "--terminal", terminal)
    return fewstep(args, "optimize", *request("fashion-mnist", "unipc", nfe), *options)


def crossed(args):
    """Schedules to try with every solver, NFE 5."""
    for terminal in ("t_min", "denoise"):
        answer = fewstep(args, "optimize", *request("fashion-mnist", "unipc", 5), "--terminal", terminal)
        yield f"HSO ({terminal})", ended(answer)
    yield "uniform log-SNR", ended(candidate(args.rules[5], "exponential", "denoise"))
    kept = argparse.Namespace(**{**vars(args), "only_kept": True})
    for solver in ("unipc", "dpmpp_2m", "ddim"):
        answer = calibration(kept, "fashion-mnist", solver, 5)
        if answer is not None:
            yield f"calibrated for `{solver}`", ended(answer)


def with_rules(args):
    """Rules depend on the noise and the NFE alone: the mixtures, which have the same noise, are asked for them."""
    args.rules = {nfe: measured_rules(args, nfe) for nfe in PUBLISHED}


def measured_rules(args, nfe):
    return fewstep(args, "optimize", *request("mixture-2d", "unipc", nfe), *effort(4, 4, 0))


def run_frechet(args):
    with_rules(args)
    torch = Diffusers(args)
    torch.teacher(args.images, SEED)
    for nfe in (5, 8, 6, 4):
        for _, _, sigmas in compared(args, nfe):
            torch.sample("unipc", sigmas, args.images, SEED)
    torch.teacher(args.images, OTHER_SEED)
    for nfe in (4, 5):
        for objective in OBJECTIVES:
            for gamma in GAMMAS:
                for terminal in ("t_min", "denoise"):
                    answer = penalised(args, objective, gamma, nfe, terminal)
                    torch.sample("unipc", ended(answer), 200, SEED)
    for _, sigmas in crossed(args):
        for solver in SOLVERS:
            torch.sample(solver, sigmas, 100, SEED)



# Tables


def figure_of(error):
    return spread((error["value"], error["stderr"]))


def spread(error):
    """Thousandths."""
    return error and f"{1000 * error[0]:.1f} ± {1000 * error[1]:.1f}"


NAMES = {
    "exponential": "uniform log-SNR",
    "karras": "EDM (Karras)",
    "uniform_t_trailing": "uniform t",
    "dm-nonuniform": "DM-NonUniform",
    "hso": "HSO",
}


def named(name, terminal=""):
    """A schedule's name for readers; with its end where that is not the clean one."""
    name = NAMES.get(name, f"`{name}`" if "_" in name and " " not in name else name)
    return f"{name}, {terminal}" if terminal == "t_min" else name


def row(cells):
    print("| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")


def head(*cells):
    print()
    row(cells)
    row("---" for _ in cells)


def best_rule(answer):
    """The best of what is neither HSO's, refined, nor DM-NonUniform's."""
    own = ("hso", "hso-constrained", "calibrated", "dm-nonuniform")
    return next(found for found in answer["calibration"]["candidates"] if found["name"] not in own)


COLUMNS = (
    ("hso", "t_min"),
    ("hso", "denoise"),
    ("karras", "denoise"),
    ("exponential", "denoise"),
    ("uniform_t_trailing", "denoise"),
    ("dm-nonuniform", "denoise"),
)


def table_errors(args, model):
    names = [named(*column) for column in COLUMNS]
    head("solver, NFE", *names, "best rule", "**calibrated**")
    for solver, steps in STEPS.items():
        for nfe in steps:
            answer = calibration(args, model, solver, nfe)
            if answer is None:
                continue
            rule = best_rule(answer)
            row(
                [f"{solver}, {nfe}"]
                + [figure_of(candidate(answer, *column)["error"]) for column in COLUMNS]
                + [f"{figure_of(rule['error'])} ({named(rule['name'], rule['terminal'])})"]
                + [named(f"**{figure_of(answer['error'])}**", answer["terminal"])]
            )


def table_goals(args):
    head("model, solver, NFE", "of published HSO", "goal", "of the better HSO", "of the best rule", "calibrated at 5; best rule at 6, at 8")
    for model in ("fashion-mnist", "mixture-64d"):
        for solver, goal in (("unipc", 0.7), ("dpmpp_2m", 0.85), ("ddim", None)):
            answers = {nfe: calibration(args, model, solver, nfe) for nfe in STEPS[solver]}
            for nfe, answer in answers.items():
                if answer is None:
                    continue
                won, rule = answer["error"]["value"], best_rule(answer)["error"]["value"]
                hso = {end: candidate(answer, "hso", end)["error"]["value"] for end in ("t_min", "denoise")}
                published = hso["denoise" if solver == "ddim" else "t_min"]
                later = [answers[n] and figure_of(best_rule(answers[n])["error"]) for n in (6, 8)]
                steps = [figure_of(answer["error"]), *later]
                row(
                    [f"{model}, {solver}, {nfe}", f"{won / published:.2f}"]
                    + ["" if goal is None or nfe > 8 else f"{goal}, {'met' if won <= goal * published else 'missed'}"]
                    + [f"{won / min(hso.values()):.2f}", f"{won / rule:.2f}"]
                    + ["; ".join(map(str, steps)) if nfe == 5 else ""]
                )
    answer = thorough(args)
    if answer:
        print(f"\nfashion-mnist, unipc, 5, with the default effort: {figure_of(answer['error'])}")


def table_frechet(args):
    torch = Diffusers(args)
    with_rules(args)
    images, _ = torch.train.load(args.dataset, "t10k")
    real = torch.features(images.view(len(images), -1).numpy())
    own = torch.teacher(args.images, SEED)
    other = torch.teacher(args.images, OTHER_SEED)
    fine = torch.features(other)
    head("NFE", "schedule", "to the fine solve's samples", "to real images", "error (diffusers)", "error (fewstep)")
    row([64, "fine solve", *(f"{d:.2f} ± {s:.2f}" for d, s in (torch.distance(own, t) for t in (fine, real))), "0", ""])
    for nfe in PUBLISHED:
        for name, terminal, sigmas in compared(args, nfe):
            made = torch.sample("unipc", sigmas, args.images, SEED)
            if made is None:
                continue
            error = spread(torch.error("unipc", sigmas, args.images))
            answer = calibration(args, "fashion-mnist", "unipc", nfe)
            if name == "best rule":
                found = answer and best_rule(answer)
                name = f"best rule: {NAMES.get(found['name'], found['name'])}"
            else:
                found = answer and (answer if name == "calibrated" else candidate(answer, name, terminal))
            distances = (f"{d:.2f} ± {s:.2f}" for d, s in (torch.distance(made, t) for t in (fine, real)))
            row([nfe, named(name, terminal), *distances, error, found and figure_of(found["error"])])
    return torch


def table_penalty(args, torch):
    head("NFE", "objective", "gamma", "points (t_min)", "smallest gap in t", "mixture-64d, t_min", "denoise", "fashion-mnist, t_min", "denoise")
    for nfe in (4, 5):
        for objective in OBJECTIVES:
            for gamma in GAMMAS:
                answer = penalty(args, "mixture-64d", objective, gamma, nfe)
                own = {end: penalised(args, objective, gamma, nfe, end) for end in ("t_min", "denoise")}
                if answer is None or None in own.values():
                    continue
                points = ", ".join(f"{1000 * t - 1:.0f}" for t in own["t_min"]["t"])
                errors = [figure_of(candidate(answer, "hso", end)["error"]) for end in own]
                errors += [spread(torch.error("unipc", ended(own[end]), 200)) for end in own]
                row([nfe, f"`{objective}`", gamma, points, f"{own['t_min']['spacing']['smallest']:.4f}", *errors])


def table_matrix(args):
    head("schedule", *SOLVERS)
    rows = {solver: matrix_row(args, "mixture-64d", solver, 6) for solver in SOLVERS}
    if None in rows.values():
        return
    names = [f"for-{solver}" for solver in SOLVERS] + ["hso", "exponential", "karras", "uniform_t_trailing"]
    for name in names:
        label = f"calibrated for `{name[4:]}`" if name.startswith("for-") else named(name)
        row([label, *(figure_of(candidate(rows[solver], name, "denoise")["error"]) for solver in SOLVERS)])
    best = (best_rule_of(rows[solver]) for solver in SOLVERS)
    row(["best rule", *(f"{figure_of(found['error'])} ({named(found['name'])})" for found in best)])


def best_rule_of(answer):
    own = ("hso", "calibrated", "for-", "dm-")
    found = answer["calibration"]["candidates"]
    return next(one for one in found if one["terminal"] == "denoise" and not one["name"].startswith(own))


def table_crossed(args, torch):
    head("schedule", *SOLVERS)
    for name, sigmas in crossed(args):
        row([name, *(spread(torch.error(solver, sigmas, 100)) for solver in SOLVERS)])


def table_auto(args):
    head("model, NFE", "solver", "best schedule", "error")
    for model in ("mixture-64d", "fashion-mnist"):
        for nfe in (5, 8):
            answer = auto(args, model, nfe)
            if answer is None:
                continue
            seen = set()
            for found in answer["calibration"]["candidates"]:
                solver = json.dumps(found["solver"])
                if solver not in seen:
                    seen.add(solver)
                    options = " ".join(str(value) for value in found["solver"].values()).replace("False", "without corrector")
                    row([f"{model}, {nfe}", options, named(found["name"], found["terminal"]), figure_of(found["error"])])
            alone = calibration(args, model, "unipc", nfe)
            row([f"{model}, {nfe}", "unipc alone", "calibrated", alone and figure_of(alone["error"])])


def table_stochastic(args):
    head("solver, NFE", "teacher", *(named(*column) for column in COLUMNS[:5]), "best rule", "calibrated")
    for solver in ("sde_dpmpp_2m", "euler_ancestral"):
        for nfe in (6, 10):
            answer = stochastic(args, "mixture-64d", solver, nfe)
            if answer is None:
                continue
            teacher, rule = answer["calibration"]["teacher"], best_rule(answer)
            row(
                [f"{solver}, {nfe}", f"{teacher['nfe']} steps, change {teacher['change']:.4f}"]
                + [figure_of(candidate(answer, *column)["error"]) for column in COLUMNS[:5]]
                + [f"{figure_of(rule['error'])} ({named(rule['name'], rule['terminal'])})"]
                + [named(f"**{figure_of(answer['error'])}**", answer["terminal"])]
            )


def table_spacing(args):
    head("model, NFE", "schedule", "points, 1000 t - 1", "smallest gap in t", "error")
    for model in ("mixture-64d", "fashion-mnist"):
        for nfe in (5, 6, 8):
            answer = calibration(args, model, "unipc", nfe)
            if answer is None:
                continue
            rows = [(f"linear d_min ({max(0.01, 0.15 - 0.14 * (nfe - 4) / 16):.3f})", candidate(answer, "hso", "t_min"))]
            if model == "mixture-64d":
                free = penalty(args, model, "mep", 0, nfe)
                rows.append(("no penalty", free and candidate(free, "hso", "t_min")))
            rows.append(("constrained", candidate(answer, "hso-constrained", "t_min")))
            rows.append(("linear d_min, clean end", candidate(answer, "hso", "denoise")))
            rows.append((named("calibrated", answer["terminal"]), answer))
            for name, found in rows:
                if found:
                    t = [Time().of(sigma) for sigma in found["sigmas"] if sigma > 0]
                    gap = min(a - b for a, b in zip(t, t[1:]))
                    points = ", ".join(f"{1000 * value - 1:.0f}" for value in t)
                    row([f"{model}, {nfe}", name, points, f"{gap:.3f}", figure_of(found["error"])])


class Time:
    """t of a noise level of Stable Diffusion's noise, which all three models have."""

    logs = None

    def of(self, sigma):
        if Time.logs is None:
            steps = [(0.00085**0.5 + k / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2 for k in range(1000)]
            total, Time.logs = 0.0, []
            for beta in steps:
                total += 0.5 * math.log1p(-beta)
                Time.logs.append(total)
        log_alpha = -0.5 * math.log1p(sigma**2)
        above = next((k for k, value in enumerate(Time.logs) if value <= log_alpha + 1e-12), 999)
        if above == 0:
            return 0.001
        low, high = Time.logs[above - 1], Time.logs[above]
        return (above + (low - log_alpha) / (low - high)) / 1000


def tables(args):
    for model in ("fashion-mnist", "mixture-64d", "mixture-2d"):
        print(f"\n## Errors, {model}")
        table_errors(args, model)
    print("\n## DM-NonUniform to t = 0.001, mixture-64d, unipc")
    head("NFE", "points, 1000 t - 1", "error")
    for nfe in PUBLISHED:
        answer = measured(args, "mixture-64d", "unipc", nfe, *DM)
        if answer:
            found = candidate(answer, "hso", "t_min")
            points = ", ".join(f"{1000 * Time().of(sigma) - 1:.0f}" for sigma in found["sigmas"])
            row([nfe, points, figure_of(found["error"])])
    print("\n## Goals")
    table_goals(args)
    print("\n## Solvers, mixture-64d")
    table_matrix(args)
    print("\n## Solver and schedule together")
    table_auto(args)
    print("\n## Stochastic samplers")
    table_stochastic(args)
    print("\n## Spacing")
    table_spacing(args)
    print("\n## Frechet distances")
    torch = table_frechet(args)
    print("\n## The spacing penalty")
    table_penalty(args, torch)
    print("\n## Solvers, fashion-mnist")
    table_crossed(args, torch)



# The picture


LINES = (
    ("HSO, t_min", "#c0392b", lambda answer: candidate(answer, "hso", "t_min")),
    ("HSO, denoise", "#e67e22", lambda answer: candidate(answer, "hso", "denoise")),
    ("EDM (Karras)", "#7f8c8d", lambda answer: candidate(answer, "karras", "denoise")),
    ("uniform t", "#2980b9", lambda answer: candidate(answer, "uniform_t_trailing", "denoise")),
    ("DM-NonUniform", "#8e44ad", lambda answer: candidate(answer, "dm-nonuniform", "denoise")),
    ("best rule", "#16a085", best_rule),
    ("calibrated", "#000000", lambda answer: answer),
)


def figure(args):
    """docs/experiments.svg: error against NFE for UniPC, logarithmic, with a standard error either side."""
    width, height, left, top = 330, 300, 50, 30
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 360" font-family="sans-serif" font-size="11">']
    out.append('<rect width="880" height="360" fill="#ffffff"/>')
    low, high = math.log10(0.007), math.log10(0.3)
    for panel, model in enumerate(("fashion-mnist", "mixture-64d")):
        x0 = left + panel * (width + 30)
        x = lambda nfe: x0 + (nfe - 3.7) / 6.6 * (width - 20)
        y = lambda error: top + (high - math.log10(min(max(error, 0.007), 0.3))) / (high - low) * (height - 20)
        out.append(f'<text x="{x0}" y="18" font-size="13">{model}, UniPC</text>')
        for error in (0.01, 0.02, 0.05, 0.1, 0.2):
            out.append(f'<path d="M{x0} {y(error):.1f}h{width - 20}" stroke="#dddddd"/>')
            if panel == 0:
                out.append(f'<text x="{x0 - 6}" y="{y(error) + 4:.1f}" text-anchor="end">{error}</text>')
        for nfe in STEPS["unipc"]:
            out.append(f'<text x="{x(nfe):.1f}" y="{top + height}" text-anchor="middle">{nfe}</text>')
        out.append(f'<text x="{x0 + width / 2 - 10}" y="{top + height + 18}" text-anchor="middle">NFE</text>')
        answers = {nfe: calibration(args, model, "unipc", nfe) for nfe in STEPS["unipc"]}
        for name, color, pick in LINES:
            errors = [(nfe, pick(answer)["error"]) for nfe, answer in answers.items() if answer]
            path = "L".join(f"{x(nfe):.1f} {y(error['value']):.1f}" for nfe, error in errors)
            thick = 2.5 if name == "calibrated" else 1.5
            out.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="{thick}"/>')
            for nfe, error in errors:
                ends = [y(error["value"] + side * error["stderr"]) for side in (1, -1)]
                out.append(f'<path d="M{x(nfe):.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="{color}"/>')
    for k, (name, color, _) in enumerate(LINES):
        at = top + 20 + 18 * k
        out.append(f'<path d="M755 {at}h20" stroke="{color}" stroke-width="2"/><text x="780" y="{at + 4}">{name}</text>')
    out.append("</svg>")
    (ROOT / "docs" / "experiments.svg").write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewstep", default=ROOT / "target" / "release" / "fewstep")
    parser.add_argument("--dataset", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--images", type=int, default=500, help="samples of a Frechet distance")
    what = parser.add_subparsers(dest="what", required=True)
    run = what.add_parser("run")
    run.add_argument("parts", nargs="+", choices=("mixtures", "fashion", "frechet"))
    what.add_parser("table")
    what.add_parser("figure")
    args = parser.parse_args()
    args.only_kept = args.what != "run"
    if args.what == "run":
        for part in args.parts:
            {"mixtures": run_mixtures, "fashion": run_fashion, "frechet": run_frechet}[part](args)
    elif args.what == "table":
        tables(args)
    else:
        figure(args)


if __name__ == "__main__":
    main()
