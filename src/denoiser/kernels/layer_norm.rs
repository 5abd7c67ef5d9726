//! Layer norm over the channels of `[b, c, n]`, in which the channels of a position are far apart: many positions go side by side.

use super::{floats, native, unset, vector};
use crate::denoiser::LoadError;
use crate::denoiser::weights::Scope;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `weight (x - mean) / sqrt(var + eps) + bias`, mean and variance over the channels of each position.
pub struct LayerNorm {
    /// `[c, 1]`.
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn load(scope: &Scope, channels: usize, eps: f64) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?.unsqueeze(1)?,
            bias: scope.tensor("bias", &[channels])?.unsqueeze(1)?,
            eps,
        })
    }

    /// `[b, c, n]` to the same shape; the moments are f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if native(x) {
            let op = Op { eps: self.eps };
            return x
                .contiguous()?
                .apply_op3_no_bwd(&self.weight, &self.bias, &op);
        }
        let wide = x.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(1)? + self.eps)?.sqrt()?;
        centred
            .broadcast_div(&deviation)?
            .to_dtype(x.dtype())?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }
}

struct Op {
    eps: f64,
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, positions) = x_layout.shape().dims3()?;
        let (weight, bias) = (floats(weight, weight_layout)?, floats(bias, bias_layout)?);
        let x = floats(x, x_layout)?;
        let mut out = unset(x.len());
        let sample = channels * positions;
        out.par_chunks_mut(sample)
            .zip(x.par_chunks(sample))
            .for_each(|(out, x)| {
                vector::normalise_columns(x, out, (weight, bias), positions, self.eps as f32);
            });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}
