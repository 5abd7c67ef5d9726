//! Elementwise silu and gelu, and softmax over the last dimension.

use super::{floats, native, unset, vector};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Numbers that are worth a thread of their own.
const GRAIN: usize = 1 << 15;

/// `x sigmoid(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    if native(x) {
        x.contiguous()?.apply_op1_no_bwd(&Silu)
    } else {
        x.silu()
    }
}

/// `x Phi(x)`, with the error function rather than an approximation of it.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if native(x) {
        x.contiguous()?.apply_op1_no_bwd(&Gelu)
    } else {
        x.gelu_erf()
    }
}

/// The first half of the channels of `[b, 2 c, n]` times gelu of the second.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    if native(x) {
        return x.contiguous()?.apply_op1_no_bwd(&Geglu);
    }
    let halves = x.chunk(2, 1)?;
    &halves[0] * gelu(&halves[1])?
}

/// `x sigmoid(1.702 x)`, which stands for gelu in the first CLIP.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    silu(&(x * 1.702)?)? / 1.702
}

/// Softmax of `scale x` over the last dimension; `scale` is positive.
pub fn softmax(x: &Tensor, scale: f64) -> Result<Tensor> {
    if native(x) {
        return x.contiguous()?.apply_op1_no_bwd(&Softmax(scale as f32));
    }
    let x = (x * scale)?;
    let powers = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

struct Silu;

impl CustomOp1 for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let mut out = unset(x.len());
        vector::silu(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let mut out = unset(x.len());
        vector::gelu(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

struct Geglu;

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (samples, channels, positions) = layout.shape().dims3()?;
        let x = floats(storage, layout)?;
        let half = channels / 2 * positions;
        let mut out = unset(samples * half);
        out.par_chunks_mut(half)
            .zip(x.par_chunks(2 * half))
            .for_each(|(out, x)| {
                out.par_chunks_mut(GRAIN)
                    .zip(x[..half].par_chunks(GRAIN))
                    .zip(x[half..].par_chunks(GRAIN))
                    .for_each(|((out, x), gate)| vector::geglu(x, gate, out));
            });
        let shape = (samples, channels / 2, positions);
        Ok((CpuStorage::F32(out), shape.into()))
    }
}

struct Softmax(f32);

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = floats(storage, layout)?.to_vec();
        let row = layout.dims().last().copied().unwrap_or(1);
        for row in out.chunks_exact_mut(row) {
            vector::softmax(row, self.0);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
