//! Self-attention over the pixels of an image, in diffusers' form with a residual connection.
//!
//! Channels stay the leading dimension throughout, so that nothing is transposed in memory: the projections are 1x1 convolutions
//! and the products read their factors by columns.

use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Conv2d, GroupNorm, Mask, attend};
use crate::denoiser::weights::Scope;
use candle_core::{Result, Tensor};

/// How an attention block is built.
#[derive(Clone, Copy)]
pub struct Shape {
    pub channels: usize,
    pub head_dim: usize,
    /// Groups of the norm; none without one.
    pub groups: Option<usize>,
    pub eps: f64,
    pub output_scale: f64,
}

/// An attention block.
pub struct Attention {
    norm: Option<GroupNorm>,
    query: Conv2d,
    key: Conv2d,
    value: Conv2d,
    out: Conv2d,
    shape: Shape,
}

impl Attention {
    pub fn load(scope: &Scope, shape: Shape) -> std::result::Result<Self, LoadError> {
        let channels = shape.channels;
        // The names before diffusers 0.13 and since.
        let projection = |old: &str, new: &str| {
            let name = if scope.at(old).has("weight") {
                old
            } else {
                new
            };
            Conv2d::load_linear(&scope.at(name), channels, channels)
        };
        let norm = |groups| GroupNorm::load(&scope.at("group_norm"), channels, groups, shape.eps);
        Ok(Self {
            norm: shape.groups.map(norm).transpose()?,
            query: projection("query", "to_q")?,
            key: projection("key", "to_k")?,
            value: projection("value", "to_v")?,
            out: projection("proj_attn", "to_out.0")?,
            shape,
        })
    }

    /// `[b, c, h, w]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (samples, channels, height, width) = x.dims4()?;
        let head_dim = self.shape.head_dim;
        let heads =
            |of: Tensor| of.reshape((samples * channels / head_dim, head_dim, height * width));
        let normed = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let query = heads(self.query.forward(&normed)?)?;
        let key = heads(self.key.forward(&normed)?)?;
        let value = heads(self.value.forward(&normed)?)?;
        let mixed = attend(&query, &key, &value, Mask::None)?;
        let out = self
            .out
            .forward(&mixed.reshape((samples, channels, height, width))?)?;
        let sum = (out + x)?;
        if self.shape.output_scale == 1.0 {
            Ok(sum)
        } else {
            sum / self.shape.output_scale
        }
    }
}
