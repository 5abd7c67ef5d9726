//! Models that a sampler can call: a batch of noisy samples in, the clean ones they predict out.
//!
//! The only place that knows candle. Batches live in the host's memory as f32, so that samplers, errors and searches are plain
//! arithmetic; a network uploads and downloads them, which costs nothing beside its own work.

mod batch;
mod conditioned;
mod config_file;
mod device;
mod files;
mod folder;
mod guidance;
mod kernels;
mod layers;
mod load_error;
mod memory;
mod mixture;
mod models;
mod network;
mod owner;
mod passes;
mod pictures;
mod precision;
mod residents;
mod stable_diffusion;
mod text;
mod unet2d;
mod unet2d_condition;
mod vae;
mod weights;

pub use batch::Batch;
pub use conditioned::{ConditionedUnet, Conditions};
pub use device::Device;
pub use files::{NetworkFiles, PipelineFiles, TextFiles, TokenizerFiles, Vocabulary};
pub use folder::{Digests, ModelFolder, ModelsRoot};
pub use guidance::Guided;
pub use load_error::LoadError;
pub use mixture::Mixture;
pub use models::{Demand, Description, Models, Runtime};
pub use network::UnetDenoiser;
pub use pictures::Pictures;
pub use precision::{Placement, Precision};
pub use stable_diffusion::Prompts;
pub use text::{Encoded, TextEncoders, Tokenizer};
pub use unet2d::{MidBlock, Unet2dConfig};
pub use unet2d_condition::{LevelConfig, MidConfig, TextTime, Unet2dConditionConfig};
pub use vae::VaeDecoder;
pub use weights::WeightsFile;

use crate::solver::Level;

/// What the samples of a batch are conditioned on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conditioning {
    /// Nothing; a class-conditional network is called with its null class.
    None,
    /// A class label for every sample.
    Classes(Vec<u32>),
}

/// How a denoiser likes its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Samples of one call at most: bounds its memory, and the time until a job hears that it should stop.
    pub samples: usize,
    /// Calls worth having under way at a time.
    pub in_flight: usize,
}

/// A denoiser at work: thread-safe, one batch a call.
pub trait Denoiser: Send + Sync {
    /// Shape of one sample: channels, height and width of an image; the dimension of a point.
    fn shape(&self) -> &[usize];

    /// Class labels it can be conditioned on: `0..classes`; 0 for an unconditional one.
    fn classes(&self) -> u32;

    /// How it likes its batches.
    fn capacity(&self) -> Capacity {
        Capacity {
            samples: 64,
            in_flight: 1,
        }
    }

    /// `E[x_0 | x_t]` of every sample, all at one noise level.
    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError>;

    /// Clean samples as pictures; nothing where they are none.
    fn pictures(&self, _samples: &Batch) -> Result<Option<Pictures>, DenoiserError> {
        Ok(None)
    }
}

impl<D: Denoiser + ?Sized> Denoiser for std::sync::Arc<D> {
    fn shape(&self) -> &[usize] {
        (**self).shape()
    }

    fn classes(&self) -> u32 {
        (**self).classes()
    }

    fn capacity(&self) -> Capacity {
        (**self).capacity()
    }

    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        (**self).denoise(x, level, conditioning)
    }

    fn pictures(&self, samples: &Batch) -> Result<Option<Pictures>, DenoiserError> {
        (**self).pictures(samples)
    }
}

/// Why a denoiser gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DenoiserError {
    #[error("{device} is out of memory; lower the number of samples or free the device")]
    OutOfMemory { device: String },
    #[error("a sample has {found} numbers where the network takes {expected:?}")]
    Shape { expected: Vec<usize>, found: usize },
    #[error("{found} class labels for {samples} samples: give one a sample")]
    LabelCount { samples: usize, found: usize },
    #[error("class label {label} is not below {classes}, the number of the network's classes")]
    Label { label: u32, classes: u32 },
    #[error("the denoiser failed: {0}")]
    Failed(String),
}
