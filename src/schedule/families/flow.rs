//! Flow-matching models.

use super::{Family, FamilyNoise};
use crate::schedule::{DynamicShift, Prediction, Shift, ShiftKind};

const FLUX: DynamicShift = DynamicShift {
    kind: ShiftKind::Exponential,
    base: (256, 0.5),
    max: (4096, 1.15),
    patch: 16,
};

const QWEN_IMAGE: DynamicShift = DynamicShift {
    kind: ShiftKind::Exponential,
    base: (256, 0.5),
    max: (8192, 0.9),
    patch: 16,
};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        id: "sd3-medium",
        title: "Stable Diffusion 3 medium",
        noise: FamilyNoise::Flow(Shift::Static(3.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "stabilityai/stable-diffusion-3-medium-diffusers scheduler_config.json",
    },
    Family {
        id: "sd3.5-large",
        title: "Stable Diffusion 3.5 large and medium",
        noise: FamilyNoise::Flow(Shift::Static(3.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "stabilityai/stable-diffusion-3.5-large scheduler_config.json",
    },
    Family {
        id: "flux-dev",
        title: "FLUX.1 dev",
        noise: FamilyNoise::Flow(Shift::Dynamic(FLUX)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "black-forest-labs/FLUX.1-dev scheduler_config.json; diffusers calculate_shift",
    },
    Family {
        id: "chroma",
        title: "Chroma",
        noise: FamilyNoise::Flow(Shift::Static(1.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "stable-diffusion-webui-forge, Chroma scheduler_config.json",
    },
    Family {
        id: "auraflow",
        title: "AuraFlow",
        noise: FamilyNoise::Flow(Shift::Static(1.73)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "ComfyUI supported_models.py, AuraFlow sampling_settings",
    },
    Family {
        id: "lumina2",
        title: "Lumina-Image 2.0",
        noise: FamilyNoise::Flow(Shift::Static(6.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "Alpha-VLLM/Lumina-Image-2.0 scheduler_config.json",
    },
    Family {
        id: "qwen-image",
        title: "Qwen-Image",
        noise: FamilyNoise::Flow(Shift::Dynamic(QWEN_IMAGE)),
        prediction: Prediction::FlowPrediction,
        resolution: (1328, 1328),
        published: None,
        source: "Qwen/Qwen-Image scheduler_config.json (its terminal stretch to 0.02 is left to the consumer)",
    },
    Family {
        id: "sana",
        title: "Sana",
        noise: FamilyNoise::Flow(Shift::Static(3.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1024, 1024),
        published: None,
        source: "diffusers scripts/convert_sana_to_diffusers.py",
    },
    Family {
        id: "wan-2.1",
        title: "Wan 2.1",
        noise: FamilyNoise::Flow(Shift::Static(3.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (832, 480),
        published: None,
        source: "diffusers scripts/convert_wan_to_diffusers.py, flow_shift 3 (480p)",
    },
    Family {
        id: "wan-2.2-ti2v-5b",
        title: "Wan 2.2 TI2V 5B",
        noise: FamilyNoise::Flow(Shift::Static(5.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1280, 704),
        published: None,
        source: "diffusers scripts/convert_wan_to_diffusers.py, flow_shift 5",
    },
    Family {
        id: "hunyuan-video",
        title: "HunyuanVideo",
        noise: FamilyNoise::Flow(Shift::Static(7.0)),
        prediction: Prediction::FlowPrediction,
        resolution: (1280, 720),
        published: None,
        source: "diffusers scripts/convert_hunyuan_video_to_diffusers.py",
    },
    Family {
        id: "ltx-video",
        title: "LTX-Video",
        noise: FamilyNoise::Flow(Shift::Static(2.37)),
        prediction: Prediction::FlowPrediction,
        resolution: (768, 512),
        published: None,
        source: "ComfyUI supported_models.py, LTXV sampling_settings; diffusers shifts by token count instead",
    },
];
