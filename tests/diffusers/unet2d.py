"""Golden outputs of diffusers' own UNet2DModel, for tests/engine/unet2d.rs.

    python unet2d.py                          writes tests/golden/unet2d: small random networks, inputs and outputs
    python unet2d.py --check                  compares a regeneration with what is kept; fails on a difference
    python unet2d.py --demo models/fashion-mnist   writes (or checks) the golden of a trained model

Networks are seeded, so a regeneration on another machine gives the same weights and, to rounding, the same outputs.
"""

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DModel

from golden import keep_or_check

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "unet2d"
WEIGHTS = "diffusion_pytorch_model.safetensors"
OLD_NAMES = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}

PLAIN = ("DownBlock2D", "DownBlock2D"), ("UpBlock2D", "UpBlock2D")
ATTENTION = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")

# name: (constructor's arguments, dtype of the weights, whether attention keys have their old names)
CASES = {
    "plain": (
        dict(blocks=PLAIN, block_out_channels=(4, 8), norm_num_groups=2, sample_size=(12, 20), in_channels=1,
             out_channels=1, layers_per_block=1, add_attention=False),
        torch.float32, False,
    ),
    "ddpm": (
        dict(blocks=ATTENTION, block_out_channels=(8, 8), norm_num_groups=4, sample_size=8, layers_per_block=1,
             attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6),
        torch.float32, True,
    ),
    "classes": (
        dict(blocks=(("AttnDownBlock2D",) * 3, ("AttnUpBlock2D",) * 3), block_out_channels=(4, 8, 12),
             norm_num_groups=4, attn_norm_num_groups=2, sample_size=(20, 12), layers_per_block=2,
             attention_head_dim=4, num_class_embeds=4, mid_block_scale_factor=1.5, time_embedding_dim=24),
        torch.bfloat16, False,
    ),
    "scale-shift": (
        dict(blocks=ATTENTION, block_out_channels=(6, 12), norm_num_groups=3, sample_size=10,
             layers_per_block=1, attention_head_dim=6, resnet_time_scale_shift="scale_shift", center_input_sample=True),
        torch.float16, False,
    ),
    "no-middle": (
        dict(blocks=(("AttnDownBlock2D",), ("AttnUpBlock2D",)), block_out_channels=(8,), norm_num_groups=1,
             sample_size=(7, 9), layers_per_block=1, attention_head_dim=2, mid_block_type=None, act_fn="swish"),
        torch.float32, False,
    ),
}


def network(seed, arguments, dtype):
    torch.manual_seed(seed)
    arguments = dict(arguments)
    down, up = arguments.pop("blocks")
    model = UNet2DModel(down_block_types=down, up_block_types=up, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
            parameter.copy_(parameter.to(dtype).float())
    return model.eval()


def run(model, samples, seed):
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.randn(samples, config.in_channels, height, width, generator=generator)
    t = torch.tensor([999.0, 0.0, 0.375, 500.25, 731.0, 20.5, 3.0, 250.0])[:samples]
    tensors = {"x": x, "t": t}
    labels = None
    if config.num_class_embeds:
        labels = torch.randint(config.num_class_embeds, (samples,), generator=generator)
        labels[0] = config.num_class_embeds - 1
        tensors["labels"] = labels.to(torch.uint32)
    with torch.no_grad():
        tensors["out"] = model(x, t, class_labels=labels).sample.contiguous()
    return tensors


def config_of(model):
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    return {"_class_name": "UNet2DModel", **config}


def make():
    """Every kept file: path below GOLDEN to a JSON value or tensors."""
    files = {}
    for seed, (name, (arguments, dtype, old_names)) in enumerate(CASES.items()):
        model = network(seed, arguments, dtype)
        weights = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
        if old_names:
            for new, old in OLD_NAMES.items():
                weights = {key.replace(f".{new}", f".{old}"): value for key, value in weights.items()}
        files[f"{name}/config.json"] = config_of(model)
        files[f"{name}/{WEIGHTS}"] = weights
        files[f"{name}/golden.safetensors"] = run(model, 3, seed)
    return files


def demo(folder):
    """The golden of a trained model; its weights stay where they are."""
    model = UNet2DModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32).eval()
    return {f"{Path(folder).name}.safetensors": run(model, 4, 2026)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--demo", metavar="FOLDER", help="a trained model's folder instead of the random networks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = demo(arguments.demo) if arguments.demo else make()
    keep_or_check(GOLDEN, files, arguments.check)


if __name__ == "__main__":
    main()
