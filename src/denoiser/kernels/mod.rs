//! The layers whose own operators in candle are too slow on a CPU: convolution, group norm, silu and softmax.
//!
//! Every layer has one forward for all devices: on a CPU it runs its kernel here, elsewhere candle's operators. The kernels are
//! single-threaded over contiguous f32 and treat each sample by itself in a fixed order, so that a sample's result does
//! not depend on its neighbours; whoever calls a network spreads samples over threads. Only `unet2d` calls them.

mod activation;
mod conv;
mod norm;
mod product;
mod vector;
mod winograd;

pub use activation::{silu, softmax};
pub use conv::{Conv2d, Padding};
pub use norm::GroupNorm;
pub use product::matmul;

use candle_core::{CpuStorage, Error, Layout, Result};

/// The numbers of a contiguous f32 tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::msg("a kernel met a tensor that is not contiguous"))?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}
