//! Group norm with its scale and shift, an optional modulation by the time and an optional silu, in one pass over the sample.

use super::{floats, native, unset, vector};
use crate::denoiser::LoadError;
use crate::denoiser::weights::Scope;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

/// `weight (x - mean) / sqrt(var + eps) + bias`, mean and variance over each group of channels of each sample.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    pub fn load(
        scope: &Scope,
        channels: usize,
        groups: usize,
        eps: f64,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?,
            bias: scope.tensor("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// `[b, c, h, w]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, &self.weight, &self.bias, false)
    }

    /// The same through silu.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, &self.weight, &self.bias, true)
    }

    /// The same, times `1 + scale` plus `shift` (each `[b, c]`) before silu.
    pub fn forward_modulated(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let scale = (scale + 1.0)?;
        let weight = scale.broadcast_mul(&self.weight)?;
        let bias = (scale.broadcast_mul(&self.bias)? + shift)?;
        self.apply(x, &weight, &bias, true)
    }

    fn apply(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, silu: bool) -> Result<Tensor> {
        if native(x) {
            let op = Op {
                groups: self.groups,
                eps: self.eps,
                silu,
            };
            return x.contiguous()?.apply_op3_no_bwd(weight, bias, &op);
        }
        let (samples, channels, height, width) = x.dims4()?;
        // Sums of squares are too large for half precision.
        let grouped = x
            .to_dtype(DType::F32)?
            .reshape((samples, self.groups, ()))?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(2)? + self.eps)?.sqrt()?;
        let normal = centred
            .broadcast_div(&deviation)?
            .to_dtype(x.dtype())?
            .reshape((samples, channels, height, width))?;
        let per_channel = |of: &Tensor| of.reshape(((), channels, 1, 1));
        let out = normal
            .broadcast_mul(&per_channel(weight)?)?
            .broadcast_add(&per_channel(bias)?)?;
        if silu { out.silu() } else { Ok(out) }
    }
}

struct Op {
    groups: usize,
    eps: f64,
    silu: bool,
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    /// The weight and bias are `[c]`, or `[b, c]` where every sample has its own.
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (samples, channels, height, width) = x_layout.shape().dims4()?;
        let x = floats(x, x_layout)?;
        let (weight, bias) = (floats(weight, weight_layout)?, floats(bias, bias_layout)?);
        let (pixels, width) = (height * width, channels / self.groups);
        let mut out = unset(x.len());
        let size = width * pixels;
        let groups = x.chunks_exact(size).zip(out.chunks_exact_mut(size));
        for (index, (x, out)) in groups.enumerate().take(samples * self.groups) {
            let (mean, variance) = vector::moments(x);
            let inverse = 1.0 / (variance + self.eps).sqrt();
            let first = index * width % weight.len();
            let planes = x.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels));
            for (channel, (x, out)) in (first..).zip(planes) {
                let scale = f64::from(weight[channel]) * inverse;
                let shift = f64::from(bias[channel]) - mean * scale;
                vector::affine(x, out, scale as f32, shift as f32, self.silu);
            }
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}
