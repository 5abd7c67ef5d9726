//! The U of a `UNet`: levels on the way down, whose results join the levels on the way up.

use super::level::{Down, Mid, Surroundings, Up};
use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Conv2d, GroupNorm};
use crate::denoiser::weights::Scope;
use candle_core::{Result, Tensor};

/// The ends of a `UNet`.
#[derive(Clone, Copy)]
pub struct Shape {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Channels of the first level.
    pub channels: usize,
    pub groups: usize,
    pub eps: f64,
    /// Height and width of the images.
    pub size: [usize; 2],
    /// Whether samples are moved from 0..1 to -1..1 first.
    pub center_input_sample: bool,
}

/// Everything of a `UNet` but the embedding of its times.
pub struct Unet {
    conv_in: Conv2d,
    down: Vec<Down>,
    mid: Option<Mid>,
    up: Vec<Up>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    center_input_sample: bool,
}

impl Unet {
    /// Around levels that were loaded from the same scope.
    pub fn load(
        scope: &Scope,
        shape: Shape,
        down: Vec<Down>,
        mid: Option<Mid>,
        up: Vec<Up>,
    ) -> std::result::Result<Self, LoadError> {
        let (channels, size) = (shape.channels, Some(shape.size));
        let norm = scope.at("conv_norm_out");
        Ok(Self {
            conv_in: Conv2d::load(&scope.at("conv_in"), shape.in_channels, channels, size)?,
            norm_out: GroupNorm::load(&norm, channels, shape.groups, shape.eps)?,
            conv_out: Conv2d::load(&scope.at("conv_out"), channels, shape.out_channels, size)?,
            center_input_sample: shape.center_input_sample,
            down,
            mid,
            up,
        })
    }

    /// `[b, in, h, w]` to `[b, out, h, w]`.
    pub fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor> {
        let x = if self.center_input_sample {
            x.affine(2.0, -1.0)?
        } else {
            x.clone()
        };
        let mut x = self.conv_in.forward(&x)?;
        let mut skips = vec![x.clone()];
        for down in &self.down {
            x = down.forward(&x, around, &mut skips)?;
        }
        if let Some(mid) = &self.mid {
            x = mid.forward(&x, around)?;
        }
        for up in &self.up {
            x = up.forward(&x, around, &mut skips)?;
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}
