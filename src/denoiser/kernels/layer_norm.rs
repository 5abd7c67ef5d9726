//! Layer norm over the channels of `[b, c, n]`.

use crate::denoiser::LoadError;
use crate::denoiser::weights::Scope;
use candle_core::{DType, Result, Tensor};

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
