//! Loops over slices of f32, compiled for the vector units of the CPU at hand.
//!
//! Plain loops in a form that compilers vectorise: no fused multiply-add, and sums in a fixed number of lanes, so that the bits
//! are the same on every CPU.

#![expect(
    clippy::inline_always,
    reason = "code that is not inlined into a dispatch is not compiled for its vector units"
)]

use pulp::Arch;

/// Partial sums that are kept side by side.
const LANES: usize = 16;

/// Columns that are normalised side by side.
const COLUMNS: usize = 128;

/// Longest stretch that is summed in f32.
const STRETCH: usize = 4096;

/// `exp(x)` to 2 units in the last place, for `x` up to 88; smaller than -87 counts as -87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    // ln 2 in two parts, the first exact in products with n.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let series = 1.987_569_1e-4;
    let series = series * r + 1.398_2e-3;
    let series = series * r + 8.333_452e-3;
    let series = series * r + 4.166_579_6e-2;
    let series = series * r + 0.166_666_65;
    let series = series * r + 0.5;
    let power = series * (r * r) + r + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[inline(always)]
fn silu_of(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x sigmoid(x)` of every number.
pub fn silu(x: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = silu_of(x);
            }
        },
    );
}

/// The error function to 2e-7: odd polynomial up to 0.93, beyond it an exponential of one (minimax fits by N. Juffa).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let near = -5.967_617e-4 * square + 4.991_194_2e-3;
    let near = near * square - 2.676_813_5e-2;
    let near = near * square + 1.128_199_2e-1;
    let near = near * square - 3.761_253_4e-1;
    let near = near * square + 1.283_791_7e-1;
    let near = near * x + x;
    let far = -1.728_534_7e-5 * size + 3.831_971_3e-4;
    let far = far * square + (-3.883_964_4e-3 * size + 2.425_462_2e-2);
    let far = far * size - 1.067_778_8e-1;
    let far = far * size - 6.348_467e-1;
    let far = far * size - 1.287_175_1e-1;
    let far = (1.0 - exp(far * size - size)).copysign(x);
    if size > 0.927_734_4 { far } else { near }
}

#[inline(always)]
fn gelu_of(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// `x Phi(x)` of every number.
pub fn gelu(x: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = gelu_of(x);
            }
        },
    );
}

/// `x gate Phi(gate)` of every pair.
pub fn geglu(x: &[f32], gate: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((out, &x), &gate) in out.iter_mut().zip(x).zip(gate) {
                *out = x * gelu_of(gate);
            }
        },
    );
}

/// Columns of a matrix with `row` numbers in a row, each without its mean and over its deviation, then times the row's weight plus its
/// bias.
pub fn normalise_columns(
    x: &[f32],
    out: &mut [f32],
    (weight, bias): (&[f32], &[f32]),
    row: usize,
    eps: f32,
) {
    let count = weight.len() as f32;
    for first in (0..row).step_by(COLUMNS) {
        let columns = first..row.min(first + COLUMNS);
        let (mut means, mut inverses) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = || x.chunks_exact(row).map(|row| &row[columns.clone()]);
                for row in rows() {
                    for (mean, x) in means.iter_mut().zip(row) {
                        *mean += x;
                    }
                }
                for mean in &mut means {
                    *mean /= count;
                }
                for row in rows() {
                    for ((square, mean), x) in inverses.iter_mut().zip(&means).zip(row) {
                        *square += (x - mean) * (x - mean);
                    }
                }
                for inverse in &mut inverses {
                    *inverse = 1.0 / (*inverse / count + eps).sqrt();
                }
                let outs = out.chunks_exact_mut(row).zip(rows());
                for ((out, x), (weight, bias)) in outs.zip(weight.iter().zip(bias)) {
                    let moments = means.iter().zip(&inverses);
                    for ((out, x), (mean, inverse)) in
                        out[columns.clone()].iter_mut().zip(x).zip(moments)
                    {
                        *out = (x - mean) * inverse * weight + bias;
                    }
                }
            },
        );
    }
}

/// `scale x + shift`, through silu if asked.
pub fn affine(x: &[f32], out: &mut [f32], scale: f32, shift: f32, through_silu: bool) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            if through_silu {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = silu_of(x * scale + shift);
                }
            } else {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = x * scale + shift;
                }
            }
        },
    );
}

/// Adds a constant.
pub fn shift(x: &mut [f32], by: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for x in x {
                *x += by;
            }
        },
    );
}

/// Pairs of rows from four products: `m_0 + m_1 + m_2` and `m_1 - m_2 - m_3`, each plus a constant.
pub fn join_rows(products: [&[f32]; 4], out: &mut [f32], width: usize, constant: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let [m0, m1, m2, m3] = products.map(|product| product.chunks_exact(width));
            let rows = m0.zip(m1).zip(m2.zip(m3));
            for (pair, ((m0, m1), (m2, m3))) in out.chunks_exact_mut(2 * width).zip(rows) {
                let (top, bottom) = pair.split_at_mut(width);
                for ((out, m0), (m1, m2)) in top.iter_mut().zip(m0).zip(m1.iter().zip(m2)) {
                    *out = m0 + m1 + m2 + constant;
                }
                for ((out, m3), (m1, m2)) in bottom.iter_mut().zip(m3).zip(m1.iter().zip(m2)) {
                    *out = m1 - m2 - m3 + constant;
                }
            }
        },
    );
}

/// Mean and variance.
pub fn moments(x: &[f32]) -> (f64, f64) {
    let count = x.len() as f64;
    let mean = sum(x, 0.0, |x| x) / count;
    let centre = mean as f32;
    let square = sum(x, centre, |x| x * x) / count;
    let off = mean - f64::from(centre);
    (mean, square - off * off)
}

#[inline(always)]
fn sum(x: &[f32], centre: f32, of: impl Fn(f32) -> f32) -> f64 {
    x.chunks(STRETCH)
        .map(|stretch| {
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    let mut lanes = [0.0_f32; LANES];
                    let (blocks, rest) = stretch.as_chunks::<LANES>();
                    for block in blocks {
                        for (lane, &x) in lanes.iter_mut().zip(block) {
                            *lane += of(x - centre);
                        }
                    }
                    for (lane, &x) in lanes.iter_mut().zip(rest) {
                        *lane += of(x - centre);
                    }
                    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>()
                },
            )
        })
        .sum()
}

/// Softmax of `scale x`, in place.
pub fn softmax(x: &mut [f32], scale: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let (blocks, rest) = x.as_chunks::<LANES>();
            for block in blocks {
                for (lane, &x) in lanes.iter_mut().zip(block) {
                    *lane = if x > *lane { x } else { *lane };
                }
            }
            let top = lanes
                .iter()
                .chain(rest)
                .fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let mut sums = [0.0_f32; LANES];
            let (blocks, rest) = x.as_chunks_mut::<LANES>();
            for block in blocks {
                for (sum, x) in sums.iter_mut().zip(block) {
                    *x = exp((*x - top) * scale);
                    *sum += *x;
                }
            }
            for (sum, x) in sums.iter_mut().zip(rest) {
                *x = exp((*x - top) * scale);
                *sum += *x;
            }
            let factor = 1.0 / sums.iter().sum::<f32>();
            for x in x {
                *x *= factor;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_has_the_error_function_in_it() {
        let x: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 2e-3).collect();
        let mut out = vec![0.0; x.len()];
        gelu(&x, &mut out);
        for (&x, &out) in x.iter().zip(&out) {
            let x = f64::from(x);
            let exact = 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
            assert!(
                (f64::from(out) - exact).abs() < 4e-7 * (1.0 + x.abs()),
                "{x}: {out}"
            );
        }
    }
}
