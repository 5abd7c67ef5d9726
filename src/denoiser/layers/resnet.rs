//! The residual block: norm, silu, convolution, the time, norm, silu, convolution, plus the input.

use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Conv2d, GroupNorm, Linear, Size};
use crate::denoiser::weights::Scope;
use candle_core::{Result, Tensor};

/// How the residual blocks of a network are built.
#[derive(Clone, Copy)]
pub struct Shape {
    pub groups: usize,
    pub eps: f64,
    /// Width of the time's embedding; none where the block is not told the time.
    pub time_embed_dim: Option<usize>,
    pub time_scale_shift: bool,
    pub output_scale: f64,
    /// Of its images.
    pub size: Size,
}

/// A residual block.
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    shape: Shape,
}

impl Resnet {
    pub fn load(
        scope: &Scope,
        channels: usize,
        outputs: usize,
        shape: Shape,
    ) -> std::result::Result<Self, LoadError> {
        let Shape { groups, eps, .. } = shape;
        let time_outputs = if shape.time_scale_shift {
            2 * outputs
        } else {
            outputs
        };
        let shortcut = (channels != outputs)
            .then(|| Conv2d::load_pointwise(&scope.at("conv_shortcut"), channels, outputs));
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), channels, groups, eps)?,
            conv1: Conv2d::load(&scope.at("conv1"), channels, outputs, shape.size)?,
            time: shape
                .time_embed_dim
                .map(|width| Linear::load(&scope.at("time_emb_proj"), width, time_outputs))
                .transpose()?,
            norm2: GroupNorm::load(&scope.at("norm2"), outputs, groups, eps)?,
            conv2: Conv2d::load(&scope.at("conv2"), outputs, outputs, shape.size)?,
            shortcut: shortcut.transpose()?,
            shape,
        })
    }

    /// `[b, in, h, w]` and the time's embedding after silu, where it is told that, to `[b, out, h, w]`.
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let hidden = self.norm1.forward_silu(x)?;
        let time = match (&self.time, time) {
            (Some(projection), Some(time)) => Some(projection.forward_vectors(time)?),
            _ => None,
        };
        let hidden = match time {
            Some(time) if self.shape.time_scale_shift => {
                let parts = time.chunk(2, 1)?;
                let hidden = self.conv1.forward(&hidden)?;
                self.norm2
                    .forward_modulated(&hidden, &parts[0], &parts[1])?
            }
            Some(time) => self
                .norm2
                .forward_silu(&self.conv1.forward_shifted(&hidden, &time)?)?,
            None => self.norm2.forward_silu(&self.conv1.forward(&hidden)?)?,
        };
        let hidden = self.conv2.forward(&hidden)?;
        let sum = match &self.shortcut {
            Some(shortcut) => (hidden + shortcut.forward(x)?)?,
            None => (hidden + x)?,
        };
        if self.shape.output_scale == 1.0 {
            Ok(sum)
        } else {
            sum / self.shape.output_scale
        }
    }
}
