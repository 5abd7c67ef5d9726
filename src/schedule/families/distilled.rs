//! Models distilled for a few steps: the schedule is part of the model, so a request gets that schedule.

use super::published::{Levels, Published};
use super::{Family, FamilyNoise};
use crate::schedule::{NoiseSpec, Prediction, Shift, VpTable};

const STABLE_DIFFUSION: VpTable = VpTable::scaled_linear(0.00085, 0.012, 1000);

/// `round(arange(1000, 0, -1000 / N)) - 1`, the trailing spacing of diffusers.
const TRAILING_1: Levels = Levels::Timesteps(&[999]);
const TRAILING_2: Levels = Levels::Timesteps(&[999, 499]);
const TRAILING_3: Levels = Levels::Timesteps(&[999, 666, 332]);
const TRAILING_4: Levels = Levels::Timesteps(&[999, 749, 499, 249]);
const TRAILING_8: Levels = Levels::Timesteps(&[999, 874, 749, 624, 499, 374, 249, 124]);

const TURBO: Published = Published {
    reason: "distilled by adversarial diffusion distillation for 1 to 4 trailing timesteps, which are used as they are.",
    schedules: &[
        (1, TRAILING_1),
        (2, TRAILING_2),
        (3, TRAILING_3),
        (4, TRAILING_4),
    ],
};

/// Shift 3 of a uniform grid: `3 t / (1 + 2 t)` at `t = 1, 7/8, .. 1/8`.
const SHIFT_3_OF_8: Levels =
    Levels::Sigmas(&[1.0, 21.0 / 22.0, 0.9, 5.0 / 6.0, 0.75, 9.0 / 14.0, 0.5, 0.3]);

pub(super) static FAMILIES: &[Family] = &[
    Family {
        id: "sd-turbo",
        title: "SD Turbo",
        noise: FamilyNoise::Fixed(NoiseSpec::Vp(STABLE_DIFFUSION)),
        prediction: Prediction::Epsilon,
        resolution: (512, 512),
        published: Some(TURBO),
        source: "stabilityai/sd-turbo scheduler config (trailing); arXiv 2311.17042",
    },
    Family {
        id: "sdxl-turbo",
        title: "SDXL Turbo",
        noise: FamilyNoise::Fixed(NoiseSpec::Vp(STABLE_DIFFUSION)),
        prediction: Prediction::Epsilon,
        resolution: (512, 512),
        published: Some(TURBO),
        source: "stabilityai/sdxl-turbo scheduler config (trailing); arXiv 2311.17042",
    },
    Family {
        id: "sdxl-lightning",
        title: "SDXL Lightning (2, 4 and 8 step checkpoints)",
        noise: FamilyNoise::Fixed(NoiseSpec::Vp(STABLE_DIFFUSION)),
        prediction: Prediction::Epsilon,
        resolution: (1024, 1024),
        published: Some(Published {
            reason: "each Lightning checkpoint is distilled for its own trailing timesteps, which are used as they are.",
            schedules: &[(2, TRAILING_2), (4, TRAILING_4), (8, TRAILING_8)],
        }),
        source: "ByteDance/SDXL-Lightning model card (Euler, trailing); arXiv 2402.13929",
    },
    Family {
        id: "lcm-sd-v1.5",
        title: "LCM (Stable Diffusion 1.5)",
        noise: FamilyNoise::Fixed(NoiseSpec::Vp(STABLE_DIFFUSION)),
        prediction: Prediction::Epsilon,
        resolution: (512, 512),
        published: Some(Published {
            reason: "latent consistency distillation on a grid of 50 timesteps, which its steps must lie on.",
            schedules: &[
                (1, TRAILING_1),
                (2, TRAILING_2),
                (4, Levels::Timesteps(&[999, 759, 499, 259])),
                (
                    8,
                    Levels::Timesteps(&[999, 879, 759, 639, 499, 379, 259, 139]),
                ),
            ],
        }),
        source: "diffusers LCMScheduler with original_inference_steps 50; arXiv 2310.04378",
    },
    Family {
        id: "flux-schnell",
        title: "FLUX.1 schnell",
        noise: FamilyNoise::Flow(Shift::Static(1.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: Some(Published {
            reason: "timestep-distilled for 1 to 4 uniform steps without shift, which are used as they are.",
            schedules: &[
                (1, Levels::Sigmas(&[1.0])),
                (2, Levels::Sigmas(&[1.0, 0.5])),
                (3, Levels::Sigmas(&[1.0, 2.0 / 3.0, 1.0 / 3.0])),
                (4, Levels::Sigmas(&[1.0, 0.75, 0.5, 0.25])),
            ],
        }),
        source: "black-forest-labs/FLUX.1-schnell scheduler config; diffusers FluxPipeline linspace(1, 1/N, N)",
    },
    Family {
        id: "z-image-turbo",
        title: "Z-Image Turbo",
        noise: FamilyNoise::Flow(Shift::Static(3.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: Some(Published {
            reason: "distilled for 8 evaluations at shift 3, which are used as they are.",
            schedules: &[(8, SHIFT_3_OF_8)],
        }),
        source: "Tongyi-MAI/Z-Image-Turbo model card (8 evaluations); diffusers ZImagePipeline linspace(1, 1/N, N), shift 3",
    },
    Family {
        id: "qwen-image-lightning",
        title: "Qwen-Image Lightning (4 and 8 step)",
        noise: FamilyNoise::Flow(Shift::Static(3.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1328, 1328),
        published: Some(Published {
            reason: "distilled for 4 or 8 steps at shift 3, which are used as they are.",
            schedules: &[
                (4, Levels::Sigmas(&[1.0, 0.9, 0.75, 0.5])),
                (8, SHIFT_3_OF_8),
            ],
        }),
        source: "diffusers documentation, Qwen-Image Lightning: base_shift = max_shift = ln 3, no terminal stretch",
    },
    Family {
        id: "wan-2.2-lightning",
        title: "Wan 2.2 Lightning (4 step)",
        noise: FamilyNoise::Flow(Shift::Static(5.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (832, 480),
        published: Some(Published {
            reason: "distilled for 4 steps at shift 5, which are used as they are.",
            schedules: &[(4, Levels::Sigmas(&[1.0, 0.9375, 5.0 / 6.0, 0.625]))],
        }),
        source: "ModelTC/Wan2.2-Lightning: timesteps 1000, 937.5, 833.33, 625",
    },
    Family {
        id: "flux2-dev-turbo",
        title: "FLUX.2 dev Turbo (8 step)",
        noise: FamilyNoise::Flow(Shift::Static(1.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: Some(Published {
            reason: "distilled for a list of 8 noise levels, which are used as they are.",
            schedules: &[(
                8,
                Levels::Sigmas(&[
                    1.0, 0.6509, 0.4374, 0.2932, 0.1893, 0.1108, 0.0495, 0.000_31,
                ]),
            )],
        }),
        source: "the sigma list its users exchange (SwarmUI discussion 1208)",
    },
    Family {
        id: "ltx-2-distilled",
        title: "LTX-2 distilled (8 step)",
        noise: FamilyNoise::Flow(Shift::Static(1.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (768, 512),
        published: Some(Published {
            reason: "distilled for a list of 8 noise levels (3 in its second stage), which are used as they are.",
            schedules: &[
                (3, Levels::Sigmas(&[0.909_375, 0.725, 0.421_875])),
                (
                    8,
                    Levels::Sigmas(&[
                        1.0, 0.993_75, 0.987_5, 0.981_25, 0.975, 0.909_375, 0.725, 0.421_875,
                    ]),
                ),
            ],
        }),
        source: "diffusers pipelines/ltx2/utils.py, DISTILLED_SIGMA_VALUES and STAGE_2_DISTILLED_SIGMA_VALUES",
    },
];
