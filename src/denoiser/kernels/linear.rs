//! Linear layers over the channels of `[b, c, n]`: of vectors, tokens or pixels, which stay the last dimension throughout.

use super::product::{Matrix, product};
use super::{floats, native, unset, vector};
use crate::denoiser::LoadError;
use crate::denoiser::weights::Scope;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor};

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
        if native(x) {
            let x = x.contiguous()?;
            return match &self.bias {
                Some(bias) => x.apply_op3_no_bwd(&self.weight, bias, &Biased),
                None => x.apply_op2_no_bwd(&self.weight, &Unbiased),
            };
        }
        let (samples, inputs, positions) = x.dims3()?;
        let outputs = self.weight.dim(0)?;
        // One product for all samples, their positions side by side.
        let columns = x.transpose(0, 1)?.reshape((inputs, samples * positions))?;
        let out = self.weight.matmul(&columns)?;
        let out = match &self.bias {
            Some(bias) => out.broadcast_add(&bias.unsqueeze(1)?)?,
            None => out,
        };
        out.reshape((outputs, samples, positions))?
            .transpose(0, 1)?
            .contiguous()
    }

    /// `[b, in]` to `[b, out]`.
    pub fn forward_vectors(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&x.unsqueeze(2)?)?.squeeze(2)
    }
}

/// A layer with a bias: `x`, weight and bias.
struct Biased;

impl CustomOp3 for Biased {
    fn name(&self) -> &'static str {
        "linear"
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
        let bias = floats(bias, bias_layout)?;
        multiplied(x, x_layout, weight, weight_layout, |out, positions| {
            for (row, &bias) in out.chunks_exact_mut(positions).zip(bias) {
                vector::shift(row, bias);
            }
        })
    }
}

/// A layer without one.
struct Unbiased;

impl CustomOp2 for Unbiased {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        multiplied(x, x_layout, weight, weight_layout, |_, _| {})
    }
}

/// The weight times every sample, each finished while it is in the cache.
fn multiplied(
    x: &CpuStorage,
    x_layout: &Layout,
    weight: &CpuStorage,
    weight_layout: &Layout,
    finish: impl Fn(&mut [f32], usize),
) -> Result<(CpuStorage, Shape)> {
    let (samples, inputs, positions) = x_layout.shape().dims3()?;
    let (outputs, _) = weight_layout.shape().dims2()?;
    let weight = Matrix {
        data: floats(weight, weight_layout)?,
        row: inputs,
        column: 1,
    };
    let x = floats(x, x_layout)?;
    let mut out = unset(samples * outputs * positions);
    let both = x.chunks_exact(inputs * positions);
    for (x, out) in both.zip(out.chunks_exact_mut(outputs * positions)) {
        let x = Matrix {
            data: x,
            row: positions,
            column: 1,
        };
        product(weight, x, (outputs, positions, inputs), out, positions);
        finish(out, positions);
    }
    Ok((CpuStorage::F32(out), (samples, outputs, positions).into()))
}
