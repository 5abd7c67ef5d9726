//! Scaled dot-product attention of heads whose channels come before their positions.
//!
//! The scores of a few queries are there at a time, never those of all: with 4096 pixels all would be 64 MiB a head.

use super::product::{Matrix, product};
use super::{floats, matmul, native, softmax, unset, vector};
use candle_core::{CpuStorage, CustomOp3, DType, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Scores at a time in a kernel: 512 KiB, so that they stay in the cache.
const TILE: usize = 1 << 17;
/// Scores at a time on other devices.
const SLICE: usize = 1 << 26;

/// Which positions a position attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Every one.
    None,
    /// Itself and those before it.
    Causal,
}

/// `value softmax(key^T query / sqrt(d))` of every head: `query` is `[heads, d, n]`, `key` and `value` are `[heads, d, m]`; the
/// answer is `[heads, d, n]`.
pub fn attend(query: &Tensor, key: &Tensor, value: &Tensor, mask: Mask) -> Result<Tensor> {
    if native(query) {
        let [query, key, value] = [query, key, value].map(Tensor::contiguous);
        return query?.apply_op3_no_bwd(&key?, &value?, &Attend(mask));
    }
    let (heads, _, queries) = query.dims3()?;
    let positions = key.dim(2)?;
    let share = (SLICE / positions).max(1);
    let (heads_a_slice, queries_a_slice) = ((share / queries).clamp(1, heads), share.min(queries));
    let mut out = Vec::new();
    for head in (0..heads).step_by(heads_a_slice) {
        let count = heads_a_slice.min(heads - head);
        let [query, key, value] = [query, key, value].map(|of| of.narrow(0, head, count));
        let (query, key, value) = (query?, key?, value?);
        let mut part = Vec::new();
        for first in (0..queries).step_by(queries_a_slice) {
            let count = queries_a_slice.min(queries - first);
            let query = query.narrow(2, first, count)?;
            part.push(sliced(&query, &key, &value, first, mask)?);
        }
        out.push(Tensor::cat(&part, 2)?);
    }
    Tensor::cat(&out, 0)
}

/// Attention of some queries, of which `first` is the first one's place.
fn sliced(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    first: usize,
    mask: Mask,
) -> Result<Tensor> {
    let (_, head_dim, queries) = query.dims3()?;
    let scores = matmul(&query.transpose(1, 2)?.contiguous()?, key)?.to_dtype(DType::F32)?;
    let scores = match mask {
        Mask::None => scores,
        Mask::Causal => {
            let positions = key.dim(2)?;
            let rows = (first..first + queries).flat_map(|i| {
                (0..positions).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 })
            });
            let mask = Tensor::from_iter(rows, scores.device())?;
            scores.broadcast_add(&mask.reshape((queries, positions))?)?
        }
    };
    let weights = softmax(&scores, scale(head_dim))?.to_dtype(value.dtype())?;
    matmul(value, &weights.transpose(1, 2)?.contiguous()?)
}

fn scale(head_dim: usize) -> f64 {
    1.0 / (head_dim as f64).sqrt()
}

struct Attend(Mask);

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        query_layout: &Layout,
        key: &CpuStorage,
        key_layout: &Layout,
        value: &CpuStorage,
        value_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (heads, head_dim, queries) = query_layout.shape().dims3()?;
        let (_, _, positions) = key_layout.shape().dims3()?;
        if value_layout.dims() != key_layout.dims() {
            return Err(Error::msg("keys and values of different shapes"));
        }
        let (query, key) = (floats(query, query_layout)?, floats(key, key_layout)?);
        let value = floats(value, value_layout)?;
        let mut out = unset(heads * head_dim * queries);
        let sizes = (head_dim * queries, head_dim * positions);
        out.par_chunks_mut(sizes.0)
            .zip(query.par_chunks(sizes.0))
            .zip(key.par_chunks(sizes.1).zip(value.par_chunks(sizes.1)))
            .for_each(|((out, query), (key, value))| {
                self.head(query, key, value, (head_dim, queries, positions), out);
            });
        Ok((CpuStorage::F32(out), query_layout.shape().clone()))
    }
}

impl Attend {
    /// One head, a few queries at a time.
    fn head(
        &self,
        query: &[f32],
        key: &[f32],
        value: &[f32],
        (head_dim, queries, positions): (usize, usize, usize),
        out: &mut [f32],
    ) {
        let rows = |data, row| Matrix {
            data,
            row,
            column: 1,
        };
        let tile = (TILE / positions).clamp(1, queries);
        let mut scores = unset(tile * positions);
        for first in (0..queries).step_by(tile) {
            let count = tile.min(queries - first);
            let query = Matrix {
                data: &query[first..],
                row: 1,
                column: queries,
            };
            let scores = &mut scores[..count * positions];
            let shape = (count, positions, head_dim);
            product(query, rows(key, positions), shape, scores, positions);
            for (i, row) in (first..).zip(scores.chunks_exact_mut(positions)) {
                if self.0 == Mask::Causal {
                    row[(i + 1).min(positions)..].fill(f32::NEG_INFINITY);
                }
                vector::softmax(row, scale(head_dim) as f32);
            }
            let weights = Matrix {
                data: scores,
                row: 1,
                column: positions,
            };
            let shape = (head_dim, count, positions);
            product(
                rows(value, positions),
                weights,
                shape,
                &mut out[first..],
                queries,
            );
        }
    }
}
