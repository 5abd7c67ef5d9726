//! Scaled dot-product attention of heads whose channels come before their positions.

use super::{matmul, softmax};
use candle_core::{Result, Tensor};

/// Which positions a position attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Every one.
    None,
    /// Itself and those before it.
    Causal,
}

/// `value softmax(key^T query / sqrt(d))` of every head: `query` is `[heads, d, n]`, `key` and `value` are `[heads, d, m]`, each
/// contiguous or a view; the answer is `[heads, d, n]`.
pub fn attend(query: &Tensor, key: &Tensor, value: &Tensor, mask: Mask) -> Result<Tensor> {
    let (_, head_dim, positions) = query.dims3()?;
    let scores = matmul(&query.transpose(1, 2)?, key)?;
    let scores = match mask {
        Mask::None => scores,
        Mask::Causal => {
            let rows = (0..positions).flat_map(|i| {
                (0..positions).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 })
            });
            let mask = Tensor::from_iter(rows, scores.device())?;
            let mask = mask.reshape((positions, positions))?;
            scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?
        }
    };
    let weights = softmax(&scores, 1.0 / (head_dim as f64).sqrt())?;
    matmul(value, &weights.transpose(1, 2)?)
}
