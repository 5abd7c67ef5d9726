"""PyTorch's side of benches/unet_forward.rs.

Reads lines `<folder> <batch> <threads>`; answers each with the seconds of one forward pass of that folder's network.
"""

import json
import sys
import time

import diffusers
import torch

TOKENS = 77


def load(folder):
    with open(f"{folder}/config.json") as file:
        network = getattr(diffusers, json.load(file)["_class_name"])
    return network.from_pretrained(folder, torch_dtype=torch.float32).eval()


def conditioning(model, batch):
    if isinstance(model, diffusers.UNet2DConditionModel):
        return {"encoder_hidden_states": torch.randn(batch, TOKENS, model.config.cross_attention_dim)}
    labels = torch.arange(batch) % model.config.num_class_embeds if model.config.num_class_embeds else None
    return {"class_labels": labels}


models = {}
for line in sys.stdin:
    folder, batch, threads = line.rsplit(" ", 2)
    batch = int(batch)
    torch.set_num_threads(int(threads))
    if folder not in models:
        models[folder] = load(folder)
    model = models[folder]
    size = model.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.randn(batch, model.config.in_channels, height, width)
    arguments = conditioning(model, batch)
    with torch.inference_mode():
        started = time.perf_counter()
        model(x, torch.full((batch,), 500.0), **arguments)
        print(time.perf_counter() - started, flush=True)
