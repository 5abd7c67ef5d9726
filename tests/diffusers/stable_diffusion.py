"""Golden outputs of diffusers' own Stable Diffusion pipelines, for tests/engine/stable_diffusion.rs.

    python stable_diffusion.py            writes tests/golden/stable_diffusion
    python stable_diffusion.py --check    compares a regeneration with what is kept; fails on a difference

Every folder `<case>/` is a tiny random pipeline as diffusers saves it. Beside it `<case>.safetensors` has what diffusers makes of it:

    ids, ids_2              tokens of PROMPTS, of each tokenizer
    context, pooled         the encoded prompts, [prompt, token, channel] and [prompt, channel]
    unet.x, .t, .out        two samples with a timestep each, the first two prompts as context
    vae.latents, .pixels    two samples decoded
    run.noise               two samples to start from, prompts 0 and 1, the last prompt as the negative one, guidance 7.5
    run.dpmpp_2m, run.unipc where TIMESTEPS and a clean end take them

`unets/<case>/` are bare networks of other shapes with `golden.safetensors`: x, t, context, labels and out.
"""

import argparse
import json
import tempfile
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from golden import keep_or_check

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "stable_diffusion"
TIMESTEPS = [999, 850, 600, 400, 180, 40]
GUIDANCE = 7.5
START, END = "<|startoftext|>", "<|endoftext|>"
PROMPTS = [
    "a photo of the red fox",
    "An OLD castle,  by the sea; it's   stormy!!  (8k, f/1.8)",
    "",
    "café naïve ÅNGSTRÖM, Straße: 日本語 🦊🎨 …",
    "don't they've I'm we'll he'd you're dogs's",
    "\ttabs\nand new lines\u00a0and\u3000spaces ",
    f"a marker {END} inside and {START}",
    "12345 0.5 v2.1 x²  ½",
    "the " * 90,
    "blurry, low quality",
]
NEGATIVE = len(PROMPTS) - 1

UNET = dict(
    in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=24, attention_head_dim=2, sample_size=8,
)
TEXT = dict(hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, projection_dim=20)
VAE = dict(
    block_out_channels=(4, 8), norm_num_groups=2, layers_per_block=1, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
)
NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)

# Networks alone: shapes that the pipelines do not have.
UNETS = {
    "classes": dict(num_class_embeds=5, norm_num_groups=2, block_out_channels=(6, 12), sample_size=(10, 14)),
    "plain-middle": dict(mid_block_type="UNetMidBlock2D", resnet_time_scale_shift="scale_shift", freq_shift=1,
                         flip_sin_to_cos=False, downsample_padding=0),
    "no-middle": dict(
        mid_block_type=None, block_out_channels=(6, 12, 18), norm_num_groups=3, layers_per_block=(1, 2, 1),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(1, 2, 3),
        transformer_layers_per_block=((0,), (1, 2), (2,)),
        reverse_transformer_layers_per_block=((1, 0), (2, 1, 1), (0, 0)), sample_size=(12, 20),
    ),
    "scaled-middle": dict(mid_block_scale_factor=1.4, use_linear_projection=True, act_fn="swish",
                          time_embedding_dim=20, center_input_sample=True, norm_eps=1e-6, upcast_attention=True),
}


def random(model, seed):
    """Weights with a spread that makes every part matter, as they are in half precision."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter.half().float())
    return model.eval()


def tokenizer(pad):
    symbols = sorted(ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e</w>"), ("a", "n"), ("r", "e"), ("o", "n"), ("f", "o"), ("fo", "x</w>"), ("i", "n"),
              ("s", "t"), ("c", "a"), ("e", "r</w>"), ("p", "h"), ("ph", "o"), ("pho", "t"), ("phot", "o</w>")]
    tokens = symbols + [f"{symbol}</w>" for symbol in symbols] + ["".join(pair) for pair in merges] + [START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=77)


def text_encoder(words, seed, projects=False, **arguments):
    config = CLIPTextConfig(
        **{**TEXT, **arguments}, vocab_size=len(words), bos_token_id=words.bos_token_id,
        max_position_embeddings=77,
    )
    config.eos_token_id = arguments.get("eos_token_id", words.eos_token_id)
    torch.manual_seed(seed)
    return random((CLIPTextModelWithProjection if projects else CLIPTextModel)(config), seed)


def unet(seed, **arguments):
    torch.manual_seed(seed)
    return random(UNet2DConditionModel(**{**UNET, **arguments}), seed)


def vae(seed, **arguments):
    torch.manual_seed(seed)
    return random(AutoencoderKL(**{**VAE, **arguments}), seed)


def pipelines():
    words, bang = tokenizer(END), tokenizer("!")
    plain = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    yield "sd15", StableDiffusionPipeline(
        unet=unet(1), vae=vae(2), tokenizer=words, text_encoder=text_encoder(words, 3, eos_token_id=2),
        scheduler=DDIMScheduler(**NOISE), **plain,
    )
    yield "sd21", StableDiffusionPipeline(
        unet=unet(4, use_linear_projection=True, attention_head_dim=(1, 4), sample_size=10, norm_num_groups=8,
                  cross_attention_dim=32),
        vae=vae(5, norm_num_groups=4, block_out_channels=(4, 4, 8), down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3),
        tokenizer=bang, text_encoder=text_encoder(bang, 6, hidden_act="gelu", hidden_size=32),
        scheduler=DDIMScheduler(prediction_type="v_prediction", **NOISE), **plain,
    )
    yield "xl", StableDiffusionXLPipeline(
        unet=unet(
            7, block_out_channels=(8, 12), norm_num_groups=2, sample_size=(6, 10), attention_head_dim=(2, 3),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2), use_linear_projection=True, cross_attention_dim=24 + 20,
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 12,
        ),
        vae=vae(8, scaling_factor=0.13025), tokenizer=words, tokenizer_2=bang, text_encoder=text_encoder(words, 9),
        text_encoder_2=text_encoder(bang, 10, True, hidden_act="gelu", hidden_size=20, projection_dim=12),
        scheduler=DDIMScheduler(**NOISE),
    )


def encode(pipeline):
    """Tokens, context and pooled text of PROMPTS, as the pipeline's own encode_prompt has them."""
    ids = lambda words: words(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    tensors = {"ids": ids(pipeline.tokenizer)}
    arguments = dict(device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    if isinstance(pipeline, StableDiffusionXLPipeline):
        tensors["ids_2"] = ids(pipeline.tokenizer_2)
        tensors["context"], _, tensors["pooled"], _ = pipeline.encode_prompt(PROMPTS, **arguments)
    else:
        tensors["context"], _ = pipeline.encode_prompt(PROMPTS, **arguments)
    return tensors


def predictor(pipeline, tensors):
    """The network's output for samples with the prompts of these numbers."""
    sides = pipeline.unet.config.sample_size
    height, width = (side * pipeline.vae_scale_factor for side in ([sides] * 2 if isinstance(sides, int) else sides))

    def predict(x, t, prompts):
        added = None
        if "pooled" in tensors:
            sizes = torch.tensor([[height, width, 0, 0, height, width]] * len(prompts), dtype=torch.float32)
            added = {"text_embeds": tensors["pooled"][prompts], "time_ids": sizes}
        context = tensors["context"][prompts]
        return pipeline.unet(x, t, encoder_hidden_states=context, added_cond_kwargs=added).sample

    return predict


def run(scheduler, predict, x):
    for t in scheduler.timesteps:
        guided, against = predict(x, t, [0, 1]), predict(x, t, [NEGATIVE, NEGATIVE])
        x = scheduler.step(against + GUIDANCE * (guided - against), t, x).prev_sample
    return x


def solvers(config):
    dpmpp = DPMSolverMultistepScheduler.from_config(config, final_sigmas_type="zero")
    dpmpp.set_timesteps(timesteps=TIMESTEPS)
    yield "run.dpmpp_2m", dpmpp
    # Takes no timesteps of its own: its tables are set.
    unipc = UniPCMultistepScheduler.from_config(config, final_sigmas_type="zero")
    unipc.set_timesteps(len(TIMESTEPS))
    unipc.timesteps = torch.tensor(TIMESTEPS)
    alphas = unipc.alphas_cumprod[unipc.timesteps]
    unipc.sigmas = torch.cat([((1 - alphas) / alphas).sqrt(), torch.zeros(1)])
    yield "run.unipc", unipc


def outputs(pipeline, seed):
    generator = torch.Generator().manual_seed(seed)
    sides = pipeline.unet.config.sample_size
    height, width = [sides] * 2 if isinstance(sides, int) else sides
    noise = lambda: torch.randn(2, 4, height, width, generator=generator)
    tensors = encode(pipeline)
    predict = predictor(pipeline, tensors)
    tensors |= {"unet.x": noise(), "unet.t": torch.tensor([731.25, 3.5])}
    tensors["unet.out"] = predict(tensors["unet.x"], tensors["unet.t"], [0, 1])
    tensors["vae.latents"] = noise()
    tensors["vae.pixels"] = pipeline.vae.decode(tensors["vae.latents"] / pipeline.vae.config.scaling_factor).sample
    tensors["run.noise"] = noise()
    for name, scheduler in solvers(pipeline.scheduler.config):
        tensors[name] = run(scheduler, predict, tensors["run.noise"])
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return {name: tensor.to(torch.uint32) if name.startswith("ids") else tensor for name, tensor in tensors.items()}


def saved(pipeline, old):
    """The files of a pipeline, with weights in half precision; `old` has the tokenizer files and names of older libraries."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        for path in sorted(Path(folder).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_dir() or path.name == "tokenizer.json" and old:
                continue
            if path.suffix == ".safetensors":
                files[name] = {key: tensor.half() for key, tensor in load_file(path).items()}
            elif path.suffix == ".json":
                files[name] = json.loads(path.read_text())
    if old:
        tokens = json.loads(pipeline.tokenizer.backend_tokenizer.to_str())["model"]
        files["tokenizer/vocab.json"] = tokens["vocab"]
        lines = ["#version: 0.2", *(" ".join(pair) for pair in tokens["merges"])]
        files["tokenizer/merges.txt"] = ("\n".join(lines) + "\n").encode()
        files["tokenizer/special_tokens_map.json"] = {"pad_token": pipeline.tokenizer.pad_token}
        files["tokenizer/tokenizer_config.json"] = {"model_max_length": 77, "pad_token": {"content": END}}
        name = "text_encoder/model.safetensors"
        prefix = "" if any(key.startswith("text_model.") for key in files[name]) else "text_model."
        files[name] = {prefix + key: tensor for key, tensor in files[name].items()}
        files[name]["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return files


def network(seed, arguments):
    """A bare network and its outputs."""
    model = unet(seed, **arguments)
    generator = torch.Generator().manual_seed(seed)
    sides = model.config.sample_size
    height, width = [sides] * 2 if isinstance(sides, int) else sides
    tensors = {
        "x": torch.randn(2, 4, height, width, generator=generator),
        "t": torch.tensor([999.0, 0.375]),
        "context": torch.randn(2, 7, model.config.cross_attention_dim, generator=generator),
    }
    labels = None
    if model.config.num_class_embeds:
        labels = torch.tensor([4, 1])
        tensors["labels"] = labels.to(torch.uint32)
    tensors["out"] = model(tensors["x"], tensors["t"], tensors["context"], class_labels=labels).sample
    config = {"_class_name": "UNet2DConditionModel"}
    config |= {key: value for key, value in model.config.items() if not key.startswith("_")}
    weights = {key: tensor.half().contiguous() for key, tensor in model.state_dict().items()}
    return {"config.json": config, "diffusion_pytorch_model.safetensors": weights, "golden.safetensors": tensors}


@torch.no_grad()
def make():
    """Every kept file: path below GOLDEN to its content."""
    files = {"prompts.json": {"prompts": PROMPTS, "timesteps": TIMESTEPS, "guidance_scale": GUIDANCE}}
    for seed, (name, pipeline) in enumerate(pipelines(), 20):
        pipeline.set_progress_bar_config(disable=True)
        files |= {f"{name}/{path}": content for path, content in saved(pipeline, old=name != "xl").items()}
        files[f"{name}.safetensors"] = outputs(pipeline, seed)
    for seed, (name, arguments) in enumerate(UNETS.items(), 40):
        files |= {f"unets/{name}/{path}": content for path, content in network(seed, arguments).items()}
    return files


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    keep_or_check(GOLDEN, make(), parser.parse_args().check)


if __name__ == "__main__":
    main()
