//! Products of matrices: the `gemm` that candle multiplies with, called straight from here.
//!
//! candle's own call asks the system for its cores before every product unless `RAYON_NUM_THREADS` is set, which takes as long as
//! the products of a small network do, and offers no choice of threads or of where the product goes. The one place with
//! unsafe code: what `gemm` reads and writes is checked to be inside the slices.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// Multiplications from which one product is worth several threads; samples share the threads before that.
const THREADED: usize = 1 << 24;

/// A matrix in a slice: element `(i, j)` is at `i row + j column`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl Matrix<'_> {
    fn holds(&self, rows: usize, columns: usize) -> bool {
        holds(self.data, (rows, self.row), (columns, self.column))
    }
}

/// Whether the last element of a matrix is inside its slice; both counts are positive. Strides are any at all, so nothing overflows.
fn holds(data: &[f32], (rows, row): (usize, usize), (columns, column): (usize, usize)) -> bool {
    let along = |count: usize, stride: usize| (count as u128 - 1) * stride as u128;
    along(rows, row) + along(columns, column) < data.len() as u128
}

/// The product of `[m, k]` and `[k, n]`; its rows start every `stride` numbers of `out`.
#[expect(
    unsafe_code,
    reason = "gemm has no safe interface; the assertion is its contract"
)]
pub fn product(
    left: Matrix,
    right: Matrix,
    (m, n, k): (usize, usize, usize),
    out: &mut [f32],
    stride: usize,
) {
    assert!(
        m > 0
            && n > 0
            && k > 0
            && stride >= n
            && left.holds(m, k)
            && right.holds(k, n)
            && holds(out, (m, stride), (n, 1)),
        "a product of {m} x {k} and {k} x {n} does not fit its slices"
    );
    let parallelism = if m * n * k < THREADED {
        gemm::Parallelism::None
    } else {
        gemm::Parallelism::Rayon(0)
    };
    let strides = |of: Matrix| (of.column as isize, of.row as isize);
    let ((left_column, left_row), (right_column, right_row)) = (strides(left), strides(right));
    // SAFETY: by the assertion every element of the three matrices is inside its slice, and `out` is borrowed for writing.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            false,
            left.data.as_ptr(),
            left_column,
            left_row,
            right.data.as_ptr(),
            right_column,
            right_row,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `[b, m, k]` times `[b, k, n]`, each contiguous or a transposed view of what is.
pub fn matmul(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if super::native(left) {
        left.apply_op2_no_bwd(right, &Matmul)
    } else {
        left.matmul(right)
    }
}

struct Matmul;

impl CustomOp2 for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (samples, m, k) = left_layout.shape().dims3()?;
        let (_, _, n) = right_layout.shape().dims3()?;
        let mut out = super::unset(samples * m * n);
        let (left, right) = (left.as_slice::<f32>()?, right.as_slice::<f32>()?);
        for (sample, out) in out.chunks_exact_mut(m * n).enumerate() {
            let (left, right) = (
                matrix(left, left_layout, sample),
                matrix(right, right_layout, sample),
            );
            product(left, right, (m, n, k), out, n);
        }
        Ok((CpuStorage::F32(out), (samples, m, n).into()))
    }
}

/// A sample's matrix in a tensor of three dimensions.
fn matrix<'a>(data: &'a [f32], layout: &Layout, sample: usize) -> Matrix<'a> {
    let stride = layout.stride();
    Matrix {
        data: &data[layout.start_offset() + sample * stride[0]..],
        row: stride[1],
        column: stride[2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns)
            .map(|i| (i * 7919 % 1013) as f32 / 1013.0 - 0.5)
            .collect()
    }

    fn multiplied(threads: usize, (m, n, k): (usize, usize, usize)) -> Vec<f32> {
        let (left, right) = (matrix(m, k), matrix(k, n));
        let left = Matrix {
            data: &left,
            row: k,
            column: 1,
        };
        let right = Matrix {
            data: &right,
            row: n,
            column: 1,
        };
        let mut out = vec![0.0; m * n];
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| product(left, right, (m, n, k), &mut out, n));
        out
    }

    #[test]
    fn a_product_has_the_same_bits_on_any_number_of_threads() {
        let shape = (192, 331, 576);
        assert!(shape.0 * shape.1 * shape.2 > THREADED);
        let alone = multiplied(1, shape);
        for threads in [2, 3, 7] {
            assert_eq!(multiplied(threads, shape), alone, "{threads} threads");
        }
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_product_outside_its_slices_is_refused() {
        let data = [0.0; 6];
        let small = Matrix {
            data: &data,
            row: 3,
            column: 1,
        };
        product(small, small, (2, 3, 3), &mut [0.0; 6], 3);
    }
}
