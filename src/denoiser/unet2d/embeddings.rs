//! What every residual block is told: the time as sines and cosines through two layers, plus the class's learned vector.

use super::config::Unet2dConfig;
use crate::denoiser::LoadError;
use crate::denoiser::kernels::{matmul, silu};
use crate::denoiser::weights::Scope;
use candle_core::{Device, Result, Tensor};

/// `ln(10000)`, of the longest period.
const LN_PERIOD: f32 = 9.210_34;

/// A layer `weight x + bias`.
pub struct Linear {
    /// `[out, in]`.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn load(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias: scope.tensor("bias", &[outputs])?,
        })
    }

    /// `[b, in]` to `[b, out]`, by one product a sample, whose bits no other sample has a part in.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let weight = self.weight.expand((x.dim(0)?, outputs, inputs))?;
        matmul(&weight, &x.unsqueeze(2)?)?
            .squeeze(2)?
            .broadcast_add(&self.bias)
    }
}

/// Times and labels to vectors.
pub struct Embedding {
    channels: usize,
    freq_shift: f64,
    cosines_first: bool,
    first: Linear,
    second: Linear,
    /// `[labels, time_embed_dim]`.
    classes: Option<Tensor>,
}

impl Embedding {
    pub fn load(scope: &Scope, config: &Unet2dConfig) -> std::result::Result<Self, LoadError> {
        let channels = config.block_out_channels[0];
        let width = config.time_embed_dim;
        let time = scope.at("time_embedding");
        let classes = config
            .num_class_embeds
            .map(|labels| {
                scope
                    .at("class_embedding")
                    .tensor("weight", &[labels, width])
            })
            .transpose()?;
        Ok(Self {
            channels,
            freq_shift: config.freq_shift,
            cosines_first: config.flip_sin_to_cos,
            first: Linear::load(&time.at("linear_1"), channels, width)?,
            second: Linear::load(&time.at("linear_2"), width, width)?,
            classes,
        })
    }

    /// `silu` of the embedding, which is all that the blocks use of it: `[b, time_embed_dim]`.
    pub fn forward(
        &self,
        timesteps: &[f64],
        labels: Option<&[u32]>,
        device: &Device,
    ) -> Result<Tensor> {
        let waves: Vec<f32> = timesteps.iter().flat_map(|&t| self.waves(t)).collect();
        let waves = Tensor::from_vec(waves, (timesteps.len(), self.channels), device)?;
        let time = self.second.forward(&silu(&self.first.forward(&waves)?)?)?;
        match (&self.classes, labels) {
            (Some(classes), Some(labels)) => {
                silu(&(time + classes.index_select(&Tensor::new(labels, device)?, 0)?)?)
            }
            _ => silu(&time),
        }
    }

    /// Sines and cosines of one time, rounded to f32 where diffusers does.
    fn waves(&self, timestep: f64) -> Vec<f32> {
        let half = self.channels / 2;
        let span = (half as f64 - self.freq_shift) as f32;
        let angles: Vec<f64> = (0..half)
            .map(|i| {
                let exponent = -(LN_PERIOD * i as f32) / span;
                let frequency = libm::exp(f64::from(exponent)) as f32;
                f64::from(timestep as f32 * frequency)
            })
            .collect();
        let sines = angles.iter().map(|&angle| libm::sin(angle) as f32);
        let cosines = angles.iter().map(|&angle| libm::cos(angle) as f32);
        let mut waves: Vec<f32> = if self.cosines_first {
            cosines.chain(sines).collect()
        } else {
            sines.chain(cosines).collect()
        };
        waves.resize(self.channels, 0.0);
        waves
    }
}
