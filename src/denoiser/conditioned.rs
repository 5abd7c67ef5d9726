//! A `UNet2DConditionModel` on a device: samples and what they are conditioned on in, the network's own output out.

use super::files::NetworkFiles;
use super::passes::Passes;
use super::unet2d_condition::{Inputs, TIME_IDS, Unet2dCondition, Unet2dConditionConfig};
use super::weights::Weights;
use super::{Batch, Capacity, DenoiserError, Device, LoadError, Placement};
use candle_core::{DType, Device as Candle, Tensor};
use std::num::NonZero;
use std::ops::Range;
use std::thread::available_parallelism;

/// Samples that a GPU takes in one pass.
const GPU_PASS: usize = 8;

/// What every sample of a batch is conditioned on.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Encoded prompts, `[cross_attention_dim, tokens]` each.
    pub context: Batch,
    /// Pooled text, `[pooled]` each; for networks that take it.
    pub pooled: Option<Batch>,
    /// Labels; for networks that take them.
    pub labels: Option<Vec<u32>>,
}

/// A network that takes prompts.
pub struct ConditionedUnet {
    network: Unet2dCondition,
    config: Unet2dConditionConfig,
    shape: [usize; 3],
    passes: Passes,
    opened: Candle,
    dtype: DType,
}

impl ConditionedUnet {
    /// Builds the network where it is to run.
    pub fn load(files: &NetworkFiles, placement: Placement) -> Result<Self, LoadError> {
        let config = Unet2dConditionConfig::parse(&files.config)?;
        if config.in_channels != config.out_channels {
            let detail = format!("must be in_channels, {}", config.in_channels);
            return Err(LoadError::config("out_channels", detail));
        }
        let opened = placement.device.open()?;
        let weights = Weights::open(&files.weights, &opened, placement.precision)?;
        let [height, width] = config.sample_size;
        Ok(Self {
            network: Unet2dCondition::load(&config, weights)?,
            shape: [config.in_channels, height, width],
            passes: Passes {
                device: placement.device,
                samples: if placement.device == Device::Cpu {
                    1
                } else {
                    GPU_PASS
                },
            },
            dtype: placement.precision.dtype(),
            config,
            opened,
        })
    }

    /// The network's description.
    #[must_use]
    pub fn config(&self) -> &Unet2dConditionConfig {
        &self.config
    }

    /// Channels, height and width of a sample.
    #[must_use]
    pub fn shape(&self) -> &[usize; 3] {
        &self.shape
    }

    /// How it likes its batches: on a CPU a sample a thread, so that a job hears soon that it should stop.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        let samples = if self.passes.device == Device::Cpu {
            available_parallelism().map_or(1, NonZero::get)
        } else {
            GPU_PASS
        };
        Capacity {
            samples,
            in_flight: 1,
        }
    }

    /// The network's own output for every sample, whatever it predicts: `timesteps` has one entry a sample, and so have the
    /// conditions. `size` is the height and width of the whole image in pixels, for networks that are told it.
    pub fn predict(
        &self,
        x: &Batch,
        timesteps: &[f64],
        conditions: &Conditions,
        size: [usize; 2],
    ) -> Result<Batch, DenoiserError> {
        let expected: usize = self.shape.iter().product();
        if x.size() != expected {
            return Err(DenoiserError::Shape {
                expected: self.shape.to_vec(),
                found: x.size(),
            });
        }
        let [height, width] = size.map(|side| side as f64);
        let time_ids = [height, width, 0.0, 0.0, height, width];
        self.passes.run(x, |samples, x| {
            self.pass(
                x,
                &timesteps[samples.clone()],
                conditions,
                samples,
                time_ids,
            )
        })
    }

    fn pass(
        &self,
        x: &[f32],
        timesteps: &[f64],
        conditions: &Conditions,
        samples: Range<usize>,
        time_ids: [f64; TIME_IDS],
    ) -> candle_core::Result<Vec<f32>> {
        let count = timesteps.len();
        let upload = |numbers: &[f32], shape: &[usize]| {
            Tensor::from_slice(numbers, shape, &self.opened)?.to_dtype(self.dtype)
        };
        let context = conditions.context.slice(samples.clone());
        let channels = self.config.cross_attention_dim();
        let tokens = context.size() / channels;
        let labels = conditions.labels.as_ref();
        let inputs = Inputs {
            context: upload(context.data(), &[count, channels, tokens])?,
            pooled: match &conditions.pooled {
                Some(pooled) => {
                    let pooled = pooled.slice(samples.clone());
                    Some(upload(pooled.data(), &[count, pooled.size()])?)
                }
                None => None,
            },
            time_ids,
            labels: labels.map(|labels| &labels[samples]),
        };
        let [channels, height, width] = self.shape;
        let x = upload(x, &[count, channels, height, width])?;
        let out = self.network.forward(&x, timesteps, &inputs)?;
        out.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}
