//! A `UNet2DModel` as a denoiser: its output, whatever it predicts, as the clean image.
//!
//! On a CPU the batch is split over the threads of the caller's rayon pool, a few samples a pass; every kernel treats a sample by
//! itself, so its bits depend neither on the threads nor on what else is in the batch. A GPU takes the batch whole.

use super::folder::ModelFolder;
use super::unet2d::{Unet2d, Unet2dConfig};
use super::weights::Weights;
use super::{Batch, Conditioning, Denoiser, DenoiserError, Device, LoadError, Precision};
use crate::schedule::Prediction;
use crate::solver::{Level, prediction};
use candle_core::{Device as Candle, Tensor};
use rayon::prelude::*;

/// Numbers of the widest activation that go through a CPU's network together, 128 KiB: small samples share a pass, so that weights
/// stay in the cache from one to the next; large ones go alone, so that activations do.
const PASS: usize = 1 << 15;

/// A `UNet2DModel` on a device.
pub struct UnetDenoiser {
    network: Unet2d,
    prediction: Prediction,
    shape: [usize; 3],
    /// Rows of the class embedding: the labels, and last the null class.
    class_embeds: Option<u32>,
    /// On a CPU.
    samples_a_pass: usize,
    device: Device,
    opened: Candle,
}

impl UnetDenoiser {
    /// Builds a model's network on a device.
    pub fn load(model: &ModelFolder, device: Device) -> Result<Self, LoadError> {
        let config = Unet2dConfig::parse(&model.network.config)?;
        if config.in_channels != config.out_channels {
            let detail = format!("must be in_channels, {}", config.in_channels);
            return Err(LoadError::config("out_channels", detail));
        }
        let opened = device.open()?;
        let network = Unet2d::load(
            &config,
            Weights::open(&model.network.weights, &opened, Precision::F32)?,
        )?;
        let [height, width] = config.sample_size;
        let widest = config.block_out_channels[0] * height * width;
        Ok(Self {
            samples_a_pass: (PASS / widest).max(1),
            network,
            prediction: model.prediction,
            shape: [config.in_channels, height, width],
            class_embeds: config.num_class_embeds.map(|rows| rows as u32),
            device,
            opened,
        })
    }

    /// Class labels that a model's network takes, by its config alone.
    pub fn classes_of(model: &ModelFolder) -> Result<u32, LoadError> {
        let config = Unet2dConfig::parse(&model.network.config)?;
        Ok(config.num_class_embeds.map_or(0, |rows| rows as u32 - 1))
    }

    /// The network's own output for every sample, before it is turned into the clean image: `timesteps` has one entry a sample.
    pub fn predict(
        &self,
        x: &Batch,
        timesteps: &[f64],
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        let size: usize = self.shape.iter().product();
        let found = x.data().len() / x.samples();
        if found != size {
            return Err(DenoiserError::Shape {
                expected: self.shape.to_vec(),
                found,
            });
        }
        let labels = self.labels(conditioning, x.samples())?;
        let labels = labels.as_deref();
        let out = if self.device == Device::Cpu {
            let group = x.samples().div_ceil(rayon::current_num_threads());
            let group = group.min(self.samples_a_pass);
            let mut out = vec![0.0; x.data().len()];
            out.par_chunks_mut(group * size)
                .zip(x.data().par_chunks(group * size))
                .zip(timesteps.par_chunks(group))
                .enumerate()
                .try_for_each(|(i, ((out, x), timesteps))| {
                    let first = i * group;
                    let labels = labels.map(|labels| &labels[first..first + timesteps.len()]);
                    out.copy_from_slice(&self.pass(x, timesteps, labels)?);
                    Ok(())
                })
                .map(|()| out)
        } else {
            self.pass(x.data(), timesteps, labels)
        };
        let out = out.map_err(|error: candle_core::Error| self.explain(&error))?;
        Ok(Batch::new(out, x.samples()))
    }

    /// One pass of the network over as many samples as there are timesteps.
    fn pass(
        &self,
        x: &[f32],
        timesteps: &[f64],
        labels: Option<&[u32]>,
    ) -> candle_core::Result<Vec<f32>> {
        let [channels, height, width] = self.shape;
        let x = Tensor::from_slice(x, (timesteps.len(), channels, height, width), &self.opened)?;
        let out = self.network.forward(&x, timesteps, labels)?;
        out.flatten_all()?.to_vec1()
    }

    /// The rows of the class embedding to use, where there is one.
    fn labels(
        &self,
        conditioning: &Conditioning,
        samples: usize,
    ) -> Result<Option<Vec<u32>>, DenoiserError> {
        let classes = self.classes();
        match conditioning {
            Conditioning::None => Ok(self.class_embeds.map(|_| vec![classes; samples])),
            Conditioning::Classes(labels) => {
                if labels.len() != samples {
                    return Err(DenoiserError::LabelCount {
                        samples,
                        found: labels.len(),
                    });
                }
                match labels.iter().find(|label| **label >= classes) {
                    Some(&label) => Err(DenoiserError::Label { label, classes }),
                    None => Ok(Some(labels.clone())),
                }
            }
        }
    }

    fn explain(&self, error: &candle_core::Error) -> DenoiserError {
        let text = error.to_string();
        let lower = text.to_lowercase();
        if ["out of memory", "out_of_memory", "insufficient memory"]
            .iter()
            .any(|sign| lower.contains(sign))
        {
            DenoiserError::OutOfMemory {
                device: self.device.to_string(),
            }
        } else {
            DenoiserError::Failed(text)
        }
    }
}

impl Denoiser for UnetDenoiser {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// One less than the class embedding has rows: the last row is the null class, which [`Conditioning::None`] is called with.
    fn classes(&self) -> u32 {
        self.class_embeds.map_or(0, |rows| rows - 1)
    }

    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        let out = self.predict(x, &vec![level.timestep; x.samples()], conditioning)?;
        Ok(prediction::clean(self.prediction, &out, x, level))
    }
}
