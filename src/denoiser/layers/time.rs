//! What every residual block is told: the time as sines and cosines through two layers, plus the class's learned vector.

use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Linear, silu};
use crate::denoiser::weights::Scope;
use candle_core::{Device, Result, Tensor};

/// `ln(10000)`, of the longest period.
const LN_PERIOD: f32 = 9.210_34;

/// How the times of a network are embedded.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Sines and cosines.
    pub channels: usize,
    pub freq_shift: f64,
    pub cosines_first: bool,
    /// Width of the embedding.
    pub width: usize,
    /// Rows of the class embedding's table.
    pub classes: Option<usize>,
}

/// Times and labels to vectors.
pub struct Embedding {
    shape: Shape,
    first: Linear,
    second: Linear,
    /// `[labels, time_embed_dim]`.
    classes: Option<Tensor>,
}

impl Embedding {
    pub fn load(scope: &Scope, shape: Shape) -> std::result::Result<Self, LoadError> {
        let Shape {
            channels, width, ..
        } = shape;
        let time = scope.at("time_embedding");
        let classes = shape
            .classes
            .map(|labels| {
                scope
                    .at("class_embedding")
                    .tensor("weight", &[labels, width])
            })
            .transpose()?;
        Ok(Self {
            first: Linear::load(&time.at("linear_1"), channels, width)?,
            second: Linear::load(&time.at("linear_2"), width, width)?,
            classes,
            shape,
        })
    }

    /// `silu` of the embedding, which is all that the blocks use of it, after `added` came to it: `[b, width]`.
    pub fn forward(
        &self,
        timesteps: &[f64],
        labels: Option<&[u32]>,
        added: Option<&Tensor>,
        device: &Device,
    ) -> Result<Tensor> {
        let Shape {
            channels,
            freq_shift,
            cosines_first,
            ..
        } = self.shape;
        let waves: Vec<f32> = timesteps
            .iter()
            .flat_map(|&t| waves(t, channels, freq_shift, cosines_first))
            .collect();
        let waves = Tensor::from_vec(waves, (timesteps.len(), channels), device)?;
        let waves = waves.to_dtype(self.first.dtype())?;
        let hidden = silu(&self.first.forward_vectors(&waves)?)?;
        let time = self.second.forward_vectors(&hidden)?;
        let time = match (&self.classes, labels) {
            (Some(classes), Some(labels)) => {
                (time + classes.index_select(&Tensor::new(labels, device)?, 0)?)?
            }
            _ => time,
        };
        match added {
            Some(added) => silu(&(time + added)?),
            None => silu(&time),
        }
    }
}

/// Sines and cosines of one number, rounded to f32 where diffusers does.
pub fn waves(number: f64, channels: usize, freq_shift: f64, cosines_first: bool) -> Vec<f32> {
    let half = channels / 2;
    let span = (half as f64 - freq_shift) as f32;
    let angles: Vec<f64> = (0..half)
        .map(|i| {
            let exponent = -(LN_PERIOD * i as f32) / span;
            let frequency = libm::exp(f64::from(exponent)) as f32;
            f64::from(number as f32 * frequency)
        })
        .collect();
    let sines = angles.iter().map(|&angle| libm::sin(angle) as f32);
    let cosines = angles.iter().map(|&angle| libm::cos(angle) as f32);
    let mut waves: Vec<f32> = if cosines_first {
        cosines.chain(sines).collect()
    } else {
        sines.chain(cosines).collect()
    };
    waves.resize(channels, 0.0);
    waves
}
