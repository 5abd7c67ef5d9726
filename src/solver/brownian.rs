//! Noise for stochastic samplers: one Brownian path over half log-SNR for each sample, whatever the schedule and the batch.
//!
//! [`BrownianTree`] is a virtual tree: a path's value at the middle of an interval is that of a Brownian bridge with a
//! normal number that only the sample's seed and the interval determine, so any point of the path can be had without the
//! others. Every schedule then sees the same path, and a finer one sees more of it. Normal numbers are `ChaCha8` streams
//! through Box-Muller on `libm`: the same bits on every CPU.

use super::Level;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Where a stochastic sampler gets its noise.
pub trait Brownian<X> {
    /// `(W(to) - W(from)) / sqrt(lambda_to - lambda_from)`: standard normal, and independent over intervals that do not
    /// overlap.
    fn noise(&mut self, from: &Level, to: &Level) -> X;
}

/// For solvers that draw none.
pub struct NoNoise;

impl<X> Brownian<X> for NoNoise {
    /// # Panics
    /// Always: only a stochastic solver asks.
    fn noise(&mut self, _: &Level, _: &Level) -> X {
        panic!("a stochastic solver needs a source of noise")
    }
}

/// Half log-SNRs that the tree spans, beyond every finite one of a noise schedule; pure noise is at its lower end.
const SPAN: f64 = 32.0;
/// Halvings down to intervals of 4e-6, within which the path is straight.
const DEPTH: u32 = 24;

/// Independent Brownian paths, one a seed, each of `size` numbers.
pub struct BrownianTree<F> {
    seeds: Vec<u64>,
    size: usize,
    build: F,
    /// The last point asked for, where the next interval usually starts.
    last: Option<(f64, Vec<f64>)>,
}

impl<F> BrownianTree<F> {
    /// `build` makes a state of the numbers, sample after sample.
    pub fn new(seeds: Vec<u64>, size: usize, build: F) -> Self {
        Self {
            seeds,
            size,
            build,
            last: None,
        }
    }

    /// `W(lambda)` of all samples, 0 at the lower end of the span.
    fn at(&self, lambda: f64) -> Vec<f64> {
        self.seeds
            .iter()
            .flat_map(|&seed| path(seed, self.size, lambda))
            .collect()
    }
}

impl<X, F: Fn(Vec<f64>) -> X> Brownian<X> for BrownianTree<F> {
    fn noise(&mut self, from: &Level, to: &Level) -> X {
        let [a, b] = [from, to].map(|level| level.lambda().clamp(-SPAN, SPAN));
        let start = match self.last.take() {
            Some((lambda, values)) if lambda == a => values,
            _ => self.at(a),
        };
        let end = self.at(b);
        let norm = libm::sqrt(b - a);
        let increments = start.iter().zip(&end).map(|(s, e)| (e - s) / norm);
        let noise = (self.build)(increments.collect());
        self.last = Some((b, end));
        noise
    }
}

/// One sample's `W(lambda)`.
fn path(seed: u64, size: usize, lambda: f64) -> Vec<f64> {
    let (mut left, mut right) = (-SPAN, SPAN);
    let mut w_left = vec![0.0; size];
    let mut w_right = normals(seed, 0, size);
    for w in &mut w_right {
        *w *= libm::sqrt(right - left);
    }
    // Nodes are numbered as in a heap: the root is 1, the halves of n are 2n and 2n + 1.
    let mut node = 1;
    for _ in 0..DEPTH {
        let middle = 0.5 * (left + right);
        let deviation = 0.5 * libm::sqrt(right - left);
        let bridge = normals(seed, node, size).into_iter();
        let w_middle: Vec<f64> = bridge
            .zip(w_left.iter().zip(&w_right))
            .map(|(z, (l, r))| 0.5 * (l + r) + deviation * z)
            .collect();
        if lambda < middle {
            (right, w_right, node) = (middle, w_middle, 2 * node);
        } else {
            (left, w_left, node) = (middle, w_middle, 2 * node + 1);
        }
    }
    let weight = (lambda - left) / (right - left);
    let between = |(l, r): (&f64, &f64)| l + weight * (r - l);
    w_left.iter().zip(&w_right).map(between).collect()
}

/// `count` standard normal numbers of a seed and a stream; the same ones start every longer list.
#[must_use]
pub fn normals(seed: u64, stream: u64, count: usize) -> Vec<f64> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    // In (0, 1], so that its logarithm exists.
    let mut uniform = || ((rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let mut normals = Vec::with_capacity(count + 1);
    while normals.len() < count {
        let radius = libm::sqrt(-2.0 * libm::log(uniform()));
        let angle = std::f64::consts::TAU * uniform();
        normals.extend([radius * libm::cos(angle), radius * libm::sin(angle)]);
    }
    normals.truncate(count);
    normals
}
