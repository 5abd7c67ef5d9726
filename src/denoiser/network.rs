//! A `UNet2DModel` as a denoiser: its output, whatever it predicts, as the clean image.

use super::folder::ModelFolder;
use super::passes::Passes;
use super::pictures::{Pictures, are_pixels};
use super::unet2d::{Unet2d, Unet2dConfig};
use super::weights::Weights;
use super::{Batch, Conditioning, Denoiser, DenoiserError, Device, LoadError, Placement};
use crate::schedule::Prediction;
use crate::solver::{Level, prediction};
use candle_core::{DType, Device as Candle, Tensor};

/// Numbers of the widest activation that go through a CPU's network together, 128 KiB: small samples share a pass, so that weights
/// stay in the cache from one to the next; large ones go alone, so that activations do.
const CPU_PASS: usize = 1 << 15;
/// Samples that a GPU takes in one pass.
const GPU_PASS: usize = 64;

/// A `UNet2DModel` on a device.
pub struct UnetDenoiser {
    network: Unet2d,
    prediction: Prediction,
    shape: [usize; 3],
    /// Rows of the class embedding: the labels, and last the null class.
    class_embeds: Option<u32>,
    passes: Passes,
    placement: Placement,
    opened: Candle,
}

impl UnetDenoiser {
    /// Builds a model's network on a device.
    pub fn load(model: &ModelFolder, placement: impl Into<Placement>) -> Result<Self, LoadError> {
        let config = Unet2dConfig::parse(&model.network.config)?;
        if config.in_channels != config.out_channels {
            let detail = format!("must be in_channels, {}", config.in_channels);
            return Err(LoadError::config("out_channels", detail));
        }
        let placement = placement.into();
        let opened = placement.device.open()?;
        let weights = Weights::open(&model.network.weights, &opened, placement.precision)?;
        let [height, width] = config.sample_size;
        let widest = config.block_out_channels[0] * height * width;
        Ok(Self {
            passes: Passes {
                device: placement.device,
                samples: if placement.device == Device::Cpu {
                    (CPU_PASS / widest).max(1)
                } else {
                    GPU_PASS
                },
            },
            network: Unet2d::load(&config, weights)?,
            prediction: model.prediction,
            shape: [config.in_channels, height, width],
            class_embeds: config.num_class_embeds.map(|rows| rows as u32),
            placement,
            opened,
        })
    }

    /// Class labels that a model's network takes, by its config alone.
    pub fn classes_of(model: &ModelFolder) -> Result<u32, LoadError> {
        let config = Unet2dConfig::parse(&model.network.config)?;
        Ok(config.num_class_embeds.map_or(0, |rows| rows as u32 - 1))
    }

    /// Whether a model's samples are pictures, by its config alone.
    pub fn has_pictures(model: &ModelFolder) -> Result<bool, LoadError> {
        Ok(are_pixels(
            Unet2dConfig::parse(&model.network.config)?.in_channels,
        ))
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
        self.passes.run(x, |samples, x| {
            let labels = labels.as_ref().map(|labels| &labels[samples.clone()]);
            self.pass(x, &timesteps[samples], labels)
        })
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
        let x = x.to_dtype(self.placement.precision.dtype())?;
        let out = self.network.forward(&x, timesteps, labels)?;
        out.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
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

    fn pictures(&self, samples: &Batch) -> Result<Option<Pictures>, DenoiserError> {
        Ok(are_pixels(self.shape[0]).then(|| Pictures {
            shape: self.shape,
            pixels: samples.clone(),
        }))
    }
}
