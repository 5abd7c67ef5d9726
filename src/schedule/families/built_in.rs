//! Models whose denoisers are built in: the demo network and the exact Gaussian mixtures, on Stable Diffusion's noise.

use super::{Family, FamilyNoise};
use crate::schedule::{NoiseSpec, Prediction, VpTable};

const NOISE: FamilyNoise =
    FamilyNoise::Fixed(NoiseSpec::Vp(VpTable::scaled_linear(0.00085, 0.012, 1000)));

pub(super) static FAMILIES: &[Family] = &[
    Family {
        id: "fashion-mnist",
        title: "Demo UNet on 16x16 Fashion-MNIST, class-conditional (built in)",
        noise: NOISE,
        prediction: Prediction::Epsilon,
        resolution: (16, 16),
        published: None,
        source: "models/fashion-mnist/README.md",
    },
    Family {
        id: "mixture-2d",
        title: "Exact mixture of eight Gaussians in the plane (built in)",
        noise: NOISE,
        prediction: Prediction::Sample,
        resolution: (2, 1),
        published: None,
        source: "fewstep's own: src/denoiser/mixture.rs",
    },
    Family {
        id: "mixture-64d",
        title: "Exact mixture of twenty Gaussians of 8x8 images (built in)",
        noise: NOISE,
        prediction: Prediction::Sample,
        resolution: (8, 8),
        published: None,
        source: "fewstep's own: src/denoiser/mixture.rs",
    },
];
