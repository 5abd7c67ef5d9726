//! Linear layers over the channels of `[b, c, n]`: of vectors, tokens or pixels, which stay the last dimension throughout.

use super::matmul;
use crate::denoiser::LoadError;
use crate::denoiser::weights::Scope;
use candle_core::{DType, Result, Tensor};

/// A layer `weight x + bias`.
pub struct Linear {
    /// `[out, in]`.
    weight: Tensor,
    /// `[out]`.
    bias: Option<Tensor>,
}

impl Linear {
    pub fn load(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            bias: Some(scope.tensor("bias", &[outputs])?),
            ..Self::load_unbiased(scope, inputs, outputs)?
        })
    }

    /// A layer without a bias.
    pub fn load_unbiased(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// A layer that is stored as a 1x1 convolution.
    pub fn load_pointwise(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let weight = scope.tensor("weight", &[outputs, inputs, 1, 1])?;
        Ok(Self {
            weight: weight.flatten_from(1)?,
            bias: Some(scope.tensor("bias", &[outputs])?),
        })
    }

    /// What its weights are stored as.
    pub fn dtype(&self) -> DType {
        self.weight.dtype()
    }

    /// `[b, in, n]` to `[b, out, n]`, by one product a sample, whose bits no other sample has a part in.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let weight = self.weight.expand((x.dim(0)?, outputs, inputs))?;
        let out = matmul(&weight, x)?;
        match &self.bias {
            Some(bias) => out.broadcast_add(&bias.unsqueeze(1)?),
            None => Ok(out),
        }
    }

    /// `[b, in]` to `[b, out]`.
    pub fn forward_vectors(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&x.unsqueeze(2)?)?.squeeze(2)
    }
}
