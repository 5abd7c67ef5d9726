//! The layers of networks, those whose own operators in candle are too slow on a CPU with kernels of their own.
//!
//! Every layer has one forward for all devices: f32 on a CPU runs its kernel here, everything else candle's operators. The kernels are
//! single-threaded over contiguous f32 and treat each sample by itself in a fixed order, so that a sample's result does
//! not depend on its neighbours; whoever calls a network spreads samples over threads. Only `layers` and the networks call them.

mod activation;
mod attention;
mod conv;
mod layer_norm;
mod linear;
mod norm;
mod product;
mod vector;
mod winograd;

pub use activation::{geglu, gelu, quick_gelu, silu, softmax};
pub use attention::{Mask, attend};
pub use conv::{Conv2d, Padding, Size};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use norm::GroupNorm;
pub use product::matmul;

use candle_core::{CpuStorage, DType, Error, Layout, Result, Tensor};

/// Whether a tensor is one for the kernels here.
fn native(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous f32 tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::msg("a kernel met a tensor that is not contiguous"))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// So many numbers to be written over, in memory that may have been used before: zeroed pages, which `vec![0.0; count]` asks the system
/// for, take longer than what most layers do with them. Not zeros, which the compiler would turn into the same.
fn unset(count: usize) -> Vec<f32> {
    vec![f32::NAN; count]
}
