"""Trains the demo denoiser that ships with fewstep: a class-conditional UNet2DModel on 16x16 Fashion-MNIST.

    python3 -m venv venv && venv/bin/pip install torch diffusers safetensors numpy
    apt-get install dataset-fashion-mnist
    venv/bin/python models/train.py denoiser --steps 10000
    venv/bin/python models/train.py classifier

`denoiser` writes the diffusers folders models/fashion-mnist/{unet,scheduler} (weights in half precision) and
training.json; `classifier` writes models/fashion-mnist-classifier, whose features the Frechet distance is taken in.
Everything is seeded; one CPU core is enough.
"""

import argparse
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import nn

MODELS = Path(__file__).resolve().parent
DATASET = "/usr/share/datasets/fashion-mnist"
CLASSES = 10
# The class that stands for "no class": what classifier-free guidance compares with.
NULL_CLASS = CLASSES


def load(folder: str, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [-1, 1], shape (n, 1, 16, 16), and their labels: 28x28 padded to 32x32 and averaged over 2x2 pixels."""

    def idx(name: str, header: int) -> np.ndarray:
        with gzip.open(Path(folder) / name) as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    images = idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = idx(f"{part}-labels-idx1-ubyte.gz", 8)
    images = F.avg_pool2d(F.pad(torch.from_numpy(images.copy()).float(), (2, 2, 2, 2)), 2)
    return images / 127.5 - 1.0, torch.from_numpy(labels.astype(np.int64))


def new_unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=8,
        num_class_embeds=CLASSES + 1,
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="epsilon",
    )


def noise_loss(unet, images, labels, alphas_cumprod, generator) -> torch.Tensor:
    """Mean squared error of the predicted noise at uniformly drawn timesteps."""
    n = torch.randint(0, len(alphas_cumprod), (len(images),), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    signal = alphas_cumprod[n].view(-1, 1, 1, 1)
    noisy = signal.sqrt() * images + (1 - signal).sqrt() * noise
    return F.mse_loss(unet(noisy, n, class_labels=labels).sample, noise)


def train_denoiser(args) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images, labels = load(args.dataset, "train")
    held_out = load(args.dataset, "t10k")
    unet, scheduler = new_unet(), new_scheduler()
    average = new_unet().requires_grad_(False)
    average.load_state_dict(unet.state_dict())
    optimizer = torch.optim.AdamW(unet.parameters(), lr=args.lr, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, step / 200) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / args.steps))),
    )
    started, running = time.monotonic(), 0.0
    for step in range(1, args.steps + 1):
        batch = torch.randint(0, len(images), (args.batch,), generator=generator)
        chosen = labels[batch].clone()
        chosen[torch.rand(args.batch, generator=generator) < 0.1] = NULL_CLASS
        loss = noise_loss(unet, images[batch], chosen, scheduler.alphas_cumprod, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rate.step()
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - decay)
        running += loss.item()
        if step % 200 == 0:
            print(f"step {step} loss {running / 200:.5f} {time.monotonic() - started:.0f} s", flush=True)
            running = 0.0
        if step % 2000 == 0 or step == args.steps:
            save_denoiser(args, average, scheduler, step, validate(average, held_out, scheduler), started)


@torch.no_grad()
def validate(unet, held_out, scheduler) -> float:
    """The loss on the test images, with noise and timesteps that are always the same."""
    generator = torch.Generator().manual_seed(1)
    images, labels = held_out
    losses = [
        noise_loss(unet, images[i : i + 500], labels[i : i + 500], scheduler.alphas_cumprod, generator).item()
        for i in range(0, len(images), 500)
    ]
    return sum(losses) / len(losses)


def save_denoiser(args, unet, scheduler, step, loss, started) -> None:
    out = Path(args.out)
    half = new_unet().half()
    half.load_state_dict(unet.state_dict())
    half.save_pretrained(out / "unet")
    scheduler.save_pretrained(out / "scheduler")
    facts = {
        "steps": step,
        "batch": args.batch,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "test_loss": round(loss, 5),
        "seconds": round(time.monotonic() - started),
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(facts, flush=True)


class Classifier(nn.Module):
    """A small convolutional network; its 64 penultimate activations are the features."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, CLASSES)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x))
        return F.relu(self.fc1(x.flatten(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.features(x))


def train_classifier(args) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images, labels = load(args.dataset, "train")
    test_images, test_labels = load(args.dataset, "t10k")
    model = Classifier()
    steps = args.epochs * (len(images) // args.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    for _ in range(args.epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: len(order) // args.batch * args.batch].split(args.batch):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            rate.step()
    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half() for name, value in model.state_dict().items()}, out / "classifier.safetensors")
    facts = {"epochs": args.epochs, "batch": args.batch, "test_accuracy": round(accuracy, 4)}
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=DATASET, help="folder of the four .gz files")
    parser.add_argument("--threads", type=int, default=1)
    what = parser.add_subparsers(required=True)
    denoiser = what.add_parser("denoiser")
    denoiser.add_argument("--steps", type=int, default=10000)
    denoiser.add_argument("--batch", type=int, default=64)
    denoiser.add_argument("--lr", type=float, default=1.5e-3)
    denoiser.add_argument("--out", default=MODELS / "fashion-mnist")
    denoiser.set_defaults(run=train_denoiser)
    classifier = what.add_parser("classifier")
    classifier.add_argument("--epochs", type=int, default=6)
    classifier.add_argument("--batch", type=int, default=128)
    classifier.add_argument("--lr", type=float, default=2e-3)
    classifier.add_argument("--out", default=MODELS / "fashion-mnist-classifier")
    classifier.set_defaults(run=train_classifier)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
