"""PyTorch's side of benches/unet_forward.rs.

Reads lines `<folder> <batch> <threads>`; answers each with the seconds of one forward pass of that folder's UNet2DModel.
"""

import sys
import time

import torch
from diffusers import UNet2DModel

models = {}
for line in sys.stdin:
    folder, batch, threads = line.rsplit(" ", 2)
    batch = int(batch)
    torch.set_num_threads(int(threads))
    if folder not in models:
        models[folder] = UNet2DModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    model = models[folder]
    size = model.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    labels = None
    if model.config.num_class_embeds:
        labels = torch.arange(batch) % model.config.num_class_embeds
    x = torch.randn(batch, model.config.in_channels, height, width)
    with torch.inference_mode():
        started = time.perf_counter()
        model(x, torch.full((batch,), 500.0), class_labels=labels)
        print(time.perf_counter() - started, flush=True)
