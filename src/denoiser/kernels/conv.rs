//! Convolution as a product of matrices: pixels are laid out by rows into columns, straight from and to `[b, c, h, w]`.
//!
//! A stretch of output rows at a time, so that the columns stay in the cache whatever the image's size. Kernels are 3x3 or 1x1;
//! the latter need no columns.

use super::product::{Matrix, product};
use super::winograd::{self, Winograd};
use super::{floats, native, unset, vector};
use crate::denoiser::LoadError;
use crate::denoiser::weights::Scope;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// Numbers laid out at a time: 1 MiB, about a core's second-level cache.
const COLUMNS: usize = 1 << 18;

/// Zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    /// Above and to the left.
    pub before: usize,
    /// Below and to the right.
    pub after: usize,
}

impl Padding {
    /// As much on every side.
    fn even(pixels: usize) -> Self {
        Self {
            before: pixels,
            after: pixels,
        }
    }
}

/// A convolution with a square kernel and a bias.
pub struct Conv2d {
    weight: Weight,
    /// `[out]`.
    bias: Tensor,
    geometry: Geometry,
}

/// A kernel as it is multiplied with: one form, since large networks are mostly this.
enum Weight {
    /// `[out, in * kernel * kernel]`.
    Plain(Tensor),
    /// For [`Winograd`].
    Transformed(Tensor),
}

/// Height and width of the images that a layer is for, where that is known before they come.
pub type Size = Option<[usize; 2]>;

#[derive(Clone, Copy)]
struct Geometry {
    channels: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
}

impl Conv2d {
    /// A 3x3 kernel that keeps the size; for images of one size, if that is given.
    pub fn load(
        scope: &Scope,
        channels: usize,
        outputs: usize,
        size: Size,
    ) -> std::result::Result<Self, LoadError> {
        let plain = Self::with_kernel(scope, channels, outputs, 3, 1, Padding::even(1))?;
        let suits = size.is_some_and(|[height, width]| winograd::suits(height, width));
        match plain.weight {
            Weight::Plain(weight) if suits && native(&weight) => {
                let weight = weight.reshape((outputs, channels, 3, 3))?;
                Ok(Self {
                    weight: Weight::Transformed(winograd::transformed(&weight)?),
                    ..plain
                })
            }
            weight => Ok(Self { weight, ..plain }),
        }
    }

    /// A 3x3 kernel that halves the size.
    pub fn load_halving(
        scope: &Scope,
        channels: usize,
        padding: Padding,
    ) -> std::result::Result<Self, LoadError> {
        Self::with_kernel(scope, channels, channels, 3, 2, padding)
    }

    /// A 1x1 kernel.
    pub fn load_pointwise(
        scope: &Scope,
        channels: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        Self::with_kernel(scope, channels, outputs, 1, 1, Padding::even(0))
    }

    /// A 1x1 kernel that is stored as a linear layer.
    pub fn load_linear(
        scope: &Scope,
        channels: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            weight: Weight::Plain(scope.tensor("weight", &[outputs, channels])?),
            bias: scope.tensor("bias", &[outputs])?,
            geometry: Geometry {
                channels,
                outputs,
                kernel: 1,
                stride: 1,
                padding: Padding::even(0),
            },
        })
    }

    fn with_kernel(
        scope: &Scope,
        channels: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
    ) -> std::result::Result<Self, LoadError> {
        let weight = scope.tensor("weight", &[outputs, channels, kernel, kernel])?;
        Ok(Self {
            weight: Weight::Plain(weight.flatten_from(1)?),
            bias: scope.tensor("bias", &[outputs])?,
            geometry: Geometry {
                channels,
                outputs,
                kernel,
                stride,
                padding,
            },
        })
    }

    /// `[b, in, h, w]` to `[b, out, h', w']`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, &self.bias)
    }

    /// The same plus `shift`, `[b, out]`.
    pub fn forward_shifted(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        self.apply(x, &shift.broadcast_add(&self.bias)?)
    }

    fn apply(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let weight = match &self.weight {
            Weight::Transformed(weight) => {
                let Geometry {
                    channels, outputs, ..
                } = self.geometry;
                let op = Winograd { channels, outputs };
                return x.contiguous()?.apply_op3_no_bwd(weight, bias, &op);
            }
            Weight::Plain(weight) if native(x) => {
                return x
                    .contiguous()?
                    .apply_op3_no_bwd(weight, bias, &self.geometry);
            }
            Weight::Plain(weight) => weight,
        };
        let Geometry {
            channels,
            outputs,
            kernel,
            stride,
            padding,
        } = self.geometry;
        let weight = weight.reshape((outputs, channels, kernel, kernel))?;
        let out = if padding.before == padding.after {
            x.conv2d(&weight, padding.before, stride, 1, 1)?
        } else {
            x.pad_with_zeros(2, padding.before, padding.after)?
                .pad_with_zeros(3, padding.before, padding.after)?
                .conv2d(&weight, 0, stride, 1, 1)?
        };
        out.broadcast_add(&bias.reshape(((), outputs, 1, 1))?)
    }
}

impl CustomOp3 for Geometry {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    /// The bias is `[out]`, or `[b, out]` where every sample has its own.
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
        let image = Image {
            x: floats(x, x_layout)?,
            height,
            width,
        };
        let bias = floats(bias, bias_layout)?;
        let side = |size: usize| {
            (size + self.padding.before + self.padding.after - self.kernel) / self.stride + 1
        };
        let (rows, row) = (side(height), side(width));
        let weight = Matrix {
            data: floats(weight, weight_layout)?,
            row: self.depth(),
            column: 1,
        };
        let mut out = unset(samples * self.outputs * rows * row);
        for (sample, out) in out.chunks_exact_mut(self.outputs * rows * row).enumerate() {
            self.convolve(weight, &image, sample, (rows, row), out);
            let biases = bias[sample * self.outputs % bias.len()..].iter();
            for (plane, &bias) in out.chunks_exact_mut(rows * row).zip(biases) {
                vector::shift(plane, bias);
            }
        }
        Ok((
            CpuStorage::F32(out),
            (samples, self.outputs, rows, row).into(),
        ))
    }
}

struct Image<'a> {
    x: &'a [f32],
    height: usize,
    width: usize,
}

impl Geometry {
    /// Numbers that an output pixel is made of.
    fn depth(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// One sample's output of `rows` by `row` pixels, a few rows at a time so that their columns stay in the cache.
    fn convolve(
        &self,
        weight: Matrix,
        image: &Image,
        sample: usize,
        (rows, row): (usize, usize),
        out: &mut [f32],
    ) {
        let (depth, plane) = (self.depth(), rows * row);
        let tile = (COLUMNS / (depth * row)).clamp(1, rows);
        for first in (0..rows).step_by(tile) {
            let tile = first..(first + tile).min(rows);
            let pixels = tile.len() * row;
            let columns;
            let (data, stride) = if self.kernel == 1 {
                (&image.x[sample * depth * plane + first * row..], plane)
            } else {
                columns = self.columns(image, sample, tile, row);
                (&columns[..], pixels)
            };
            let columns = Matrix {
                data,
                row: stride,
                column: 1,
            };
            let shape = (self.outputs, pixels, depth);
            product(weight, columns, shape, &mut out[first * row..], plane);
        }
    }

    /// The columns of output rows `rows`, each of `row` pixels: `[in * kernel * kernel, pixels]`.
    fn columns(&self, image: &Image, sample: usize, rows: Range<usize>, row: usize) -> Vec<f32> {
        let plane = image.height * image.width;
        let planes = image.x.chunks_exact(plane).skip(sample * self.channels);
        let mut columns =
            Vec::with_capacity(self.channels * self.kernel * self.kernel * rows.len() * row);
        for plane in planes.take(self.channels) {
            for dy in 0..self.kernel {
                for dx in 0..self.kernel {
                    let tap = Tap {
                        dy,
                        dx,
                        rows: rows.clone(),
                        row,
                    };
                    if self.stride == 1 {
                        self.shifted(plane, &tap, &mut columns);
                    } else {
                        self.strided(plane, image.width, &tap, &mut columns);
                    }
                }
            }
        }
        columns
    }

    /// One tap of a kernel that keeps the size: the plane, moved, with what came around the edges cleared.
    fn shifted(&self, plane: &[f32], tap: &Tap, columns: &mut Vec<f32>) {
        let start = columns.len();
        let end = start + tap.rows.len() * tap.row;
        let before = self.padding.before * (tap.row + 1);
        let first = (tap.rows.start + tap.dy) * tap.row + tap.dx;
        let skip = before.saturating_sub(first).min(end - start);
        columns.resize(start + skip, 0.0);
        let from = (first + skip - before).min(plane.len());
        let to = (from + end - start - skip).min(plane.len());
        columns.extend_from_slice(&plane[from..to]);
        columns.resize(end, 0.0);
        for edge in 0..self.padding.before.saturating_sub(tap.dx) {
            clear(&mut columns[start + edge..], tap.row);
        }
        for edge in 1..=tap.dx.saturating_sub(self.padding.before) {
            clear(&mut columns[start + tap.row - edge..], tap.row);
        }
    }

    /// One tap at any stride.
    fn strided(&self, plane: &[f32], width: usize, tap: &Tap, columns: &mut Vec<f32>) {
        // The first pixel whose tap is inside the image, and where it is.
        let skip = self
            .padding
            .before
            .saturating_sub(tap.dx)
            .div_ceil(self.stride);
        let start = skip * self.stride + tap.dx - self.padding.before;
        for y in tap.rows.clone() {
            let end = columns.len() + tap.row;
            let y = (y * self.stride + tap.dy).checked_sub(self.padding.before);
            if let Some(source) = y.and_then(|y| plane.chunks_exact(width).nth(y)) {
                columns.resize(columns.len() + skip, 0.0);
                let inside = source
                    .get(start..)
                    .unwrap_or(&[])
                    .iter()
                    .step_by(self.stride);
                columns.extend(inside.take(tap.row - skip));
            }
            columns.resize(end, 0.0);
        }
    }
}

/// A position in the kernel, and the output rows it is wanted for, each of `row` pixels.
struct Tap {
    dy: usize,
    dx: usize,
    rows: Range<usize>,
    row: usize,
}

/// Zero for the first number of every `row`.
fn clear(numbers: &mut [f32], row: usize) {
    for number in numbers.iter_mut().step_by(row) {
        *number = 0.0;
    }
}
