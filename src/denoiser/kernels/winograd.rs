//! 3x3 convolutions of whole images by Winograd's F(2, 3) down the columns (arXiv 1509.09308): 4 products for 6.
//!
//! Two output rows come from four input rows `d` by `m = (U_0 (d_0 - d_2), U_1 (d_1 + d_2), U_2 (d_2 - d_1), U_3 (d_1 - d_3))`:
//! `m_0 + m_1 + m_2` and `m_1 - m_2 - m_3`, where `U` are the kernel's rows `g` as `g_0, (g_0 + g_1 + g_2) / 2,
//! (g_0 - g_1 + g_2) / 2, g_2`. Along a row the three taps stay a plain product, so that everything is sums of whole rows.

use super::product::{self, Matrix};
use super::{floats, unset, vector};
use candle_core::{CpuStorage, CustomOp3, Error, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// Numbers laid out at a time: 1 MiB, about a core's second-level cache.
const COLUMNS: usize = 1 << 18;

/// Fewest pixels for which four products of half the size are faster than one.
const FEWEST_PIXELS: usize = 64;

/// Rows of the four products that each row of a pair needs.
const PRODUCTS: usize = 4;

/// Whether an image of this size is convolved this way.
pub fn suits(height: usize, width: usize) -> bool {
    height.is_multiple_of(2) && height * width >= FEWEST_PIXELS
}

/// `U` of a weight `[out, in, 3, 3]`, as `[4, out, 3 in]`; for each input the taps are the middle, the left and the right.
pub fn transformed(weight: &Tensor) -> Result<Tensor> {
    let (outputs, channels, _, _) = weight.dims4()?;
    let row = |dy: usize| weight.narrow(2, dy, 1)?.squeeze(2);
    let (top, middle, bottom) = (row(0)?, row(1)?, row(2)?);
    let outer = ((&top + &bottom)? * 0.5)?;
    let inner = (middle * 0.5)?;
    let parts = [top, (&outer + &inner)?, (outer - inner)?, bottom];
    let order = Tensor::new(&[1_u32, 0, 2], weight.device())?;
    Tensor::stack(&parts, 0)?
        .index_select(&order, 3)?
        .reshape((PRODUCTS, outputs, 3 * channels))
}

/// The convolution of `[b, in, h, w]` with a transformed weight and a bias, `[out]` or `[b, out]`.
pub struct Winograd {
    pub channels: usize,
    pub outputs: usize,
}

impl CustomOp3 for Winograd {
    fn name(&self) -> &'static str {
        "winograd"
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
        let (samples, _, height, width) = x_layout.shape().dims4()?;
        if !suits(height, width) {
            return Err(Error::msg(
                "an image of another size than the network was built for",
            ));
        }
        let (x, bias) = (floats(x, x_layout)?, floats(bias, bias_layout)?);
        let (depth, plane) = (3 * self.channels, height * width);
        let mut out = unset(samples * self.outputs * plane);
        let weight = floats(weight, weight_layout)?;
        let pairs = height / 2;
        let tile = (COLUMNS / (PRODUCTS * depth * width)).clamp(1, pairs);
        let mut products = unset(PRODUCTS * self.outputs * tile * width);
        let sizes = (self.channels * plane, self.outputs * plane);
        let both = x.chunks_exact(sizes.0).zip(out.chunks_exact_mut(sizes.1));
        for (sample, (x, out)) in both.enumerate() {
            let bias = &bias[sample * self.outputs % bias.len()..];
            for first in (0..pairs).step_by(tile) {
                let pairs = first..(first + tile).min(pairs);
                let pixels = pairs.len() * width;
                let columns = columns(x, (height, width), &pairs);
                let quarter = self.outputs * pixels;
                for (j, out) in products[..PRODUCTS * quarter]
                    .chunks_exact_mut(quarter)
                    .enumerate()
                {
                    let shape = (self.outputs, pixels, depth);
                    let weight = part(weight, j, self.outputs, depth);
                    product::product(weight, part(&columns, j, depth, pixels), shape, out, pixels);
                }
                let rows = 2 * first * width;
                for (channel, plane) in out.chunks_exact_mut(plane).enumerate() {
                    let channel_of =
                        |j: usize| &products[j * quarter + channel * pixels..][..pixels];
                    let products = [0, 1, 2, 3].map(channel_of);
                    let plane = &mut plane[rows..rows + 2 * pixels];
                    vector::join_rows(products, plane, width, bias[channel]);
                }
            }
        }
        let shape = (samples, self.outputs, height, width);
        Ok((CpuStorage::F32(out), shape.into()))
    }
}

/// What the transformed weight is multiplied with, for these pairs of output rows: `[4, 3 in, pixels]`.
fn columns(x: &[f32], (height, width): (usize, usize), pairs: &Range<usize>) -> Vec<f32> {
    let pixels = pairs.len() * width;
    let planes = x.chunks_exact(height * width);
    let mut columns = Vec::with_capacity(PRODUCTS * 3 * planes.len() * pixels);
    let zeros = vec![0.0; width];
    for product in 0..PRODUCTS {
        for plane in planes.clone() {
            let start = columns.len();
            // Input row `dy` of a pair; the image starts a row later.
            let row = |pair: usize, dy: usize| {
                let y = (2 * pair + dy).checked_sub(1).filter(|&y| y < height);
                y.map_or(&zeros[..], |y| &plane[y * width..][..width])
            };
            for pair in pairs.clone() {
                let [first, second] = [[0, 2], [1, 2], [2, 1], [1, 3]][product];
                let both = row(pair, first).iter().zip(row(pair, second));
                if product == 1 {
                    columns.extend(both.map(|(a, b)| a + b));
                } else {
                    columns.extend(both.map(|(a, b)| a - b));
                }
            }
            columns.push(0.0);
            columns.extend_from_within(start..start + pixels - 1);
            clear(&mut columns[start + pixels..], width);
            columns.extend_from_within(start + 1..start + pixels);
            columns.push(0.0);
            clear(&mut columns[start + 2 * pixels + width - 1..], width);
        }
    }
    columns
}

/// The `j`-th of the matrices, each of `rows` rows of `row` numbers, that follow one another.
fn part(data: &[f32], j: usize, rows: usize, row: usize) -> Matrix<'_> {
    Matrix {
        data: &data[j * rows * row..],
        row,
        column: 1,
    }
}

/// Zero for the first number of every `row`.
fn clear(numbers: &mut [f32], row: usize) {
    for number in numbers.iter_mut().step_by(row) {
        *number = 0.0;
    }
}
