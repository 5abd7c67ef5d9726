//! Gaussian mixtures: models whose denoiser is known exactly, for measuring schedules without weights.
//!
//! A component is `N(mean, diag(variance))` in an orthonormal basis, the pixels' own or the two-dimensional cosine basis, where
//! images have falling spectra. With `x_t = alpha x_0 + sigma noise` the posterior of a component is Gaussian too:
//! `E[x_0 | x_t, k] = mean + alpha v / (alpha^2 v + sigma^2) (x_t - alpha mean)`, and components weigh by their likelihood.

use super::{Batch, Conditioning, Denoiser, DenoiserError};
use crate::solver::{Level, normals};
use std::f64::consts::PI;

/// An exact denoiser of a Gaussian mixture.
#[derive(Clone, Debug)]
pub struct Mixture {
    shape: Vec<usize>,
    components: Vec<Component>,
    /// Rows are the basis the components are diagonal in; none for the standard basis.
    basis: Option<Vec<Vec<f64>>>,
}

#[derive(Clone, Debug)]
struct Component {
    weight: f64,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Mixture {
    /// Eight round components on a circle in the plane, one twice as heavy and one twice as wide as the others.
    #[must_use]
    pub fn ring() -> Self {
        let component = |k: usize| {
            let angle = PI * k as f64 / 4.0;
            let width: f64 = if k == 3 { 0.2 } else { 0.1 };
            Component {
                weight: if k == 0 { 2.0 } else { 1.0 },
                mean: vec![libm::cos(angle), libm::sin(angle)],
                variance: vec![width * width; 2],
            }
        };
        Self {
            shape: vec![2],
            components: (0..8).map(component).collect(),
            basis: None,
        }
    }

    /// Twenty kinds of 8x8 images in [-1, 1] or so: smooth random means, and within each kind a spectrum that falls as natural
    /// images' does, with the square of the frequency.
    #[must_use]
    pub fn images() -> Self {
        const SIDE: usize = 8;
        const SEED: u64 = 64;
        let frequency = |i: usize| {
            let (row, column) = ((i / SIDE) as f64, (i % SIDE) as f64);
            1.0 + row * row + column * column
        };
        let component = |k: u64| Component {
            weight: 1.0 + (k % 3) as f64,
            mean: normals(SEED, k, SIDE * SIDE)
                .iter()
                .enumerate()
                .map(|(i, z)| 3.0 * z / frequency(i))
                .collect(),
            variance: (0..SIDE * SIDE)
                .map(|i| 0.3 / frequency(i) + 1e-3)
                .collect(),
        };
        Self {
            shape: vec![1, SIDE, SIDE],
            components: (0..20).map(component).collect(),
            basis: Some(cosines(SIDE)),
        }
    }

    /// The posterior mean of one sample.
    fn posterior(&self, x: &[f32], level: &Level) -> Vec<f32> {
        let (alpha, sigma2) = (level.alpha, level.sigma * level.sigma);
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let x = match &self.basis {
            Some(basis) => basis.iter().map(|row| dot(row, &x)).collect(),
            None => x,
        };
        let log_likelihoods: Vec<f64> = self
            .components
            .iter()
            .map(|component| component.log_likelihood(&x, alpha, sigma2))
            .collect();
        let most = log_likelihoods.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = log_likelihoods
            .iter()
            .map(|l| libm::exp(l - most))
            .collect();
        let total: f64 = weights.iter().sum();
        let mut mean = vec![0.0; x.len()];
        for (component, weight) in self.components.iter().zip(&weights) {
            component.add_posterior_mean(weight / total, &x, alpha, sigma2, &mut mean);
        }
        match &self.basis {
            Some(basis) => (0..x.len())
                .map(|i| {
                    basis
                        .iter()
                        .zip(&mean)
                        .map(|(row, m)| row[i] * m)
                        .sum::<f64>() as f32
                })
                .collect(),
            None => mean.iter().map(|&m| m as f32).collect(),
        }
    }
}

impl Component {
    /// `ln(weight N(x; alpha mean, alpha^2 variance + sigma^2))`, without the constant all components share.
    fn log_likelihood(&self, x: &[f64], alpha: f64, sigma2: f64) -> f64 {
        let terms = x.iter().zip(&self.mean).zip(&self.variance);
        let exponent: f64 = terms
            .map(|((x, mean), variance)| {
                let spread = alpha * alpha * variance + sigma2;
                let off = x - alpha * mean;
                off * off / spread + libm::log(spread)
            })
            .sum();
        libm::log(self.weight) - 0.5 * exponent
    }

    fn add_posterior_mean(&self, weight: f64, x: &[f64], alpha: f64, sigma2: f64, sum: &mut [f64]) {
        let terms = x.iter().zip(&self.mean).zip(&self.variance);
        for (sum, ((x, mean), variance)) in sum.iter_mut().zip(terms) {
            let gain = alpha * variance / (alpha * alpha * variance + sigma2);
            *sum += weight * (mean + gain * (x - alpha * mean));
        }
    }
}

impl Denoiser for Mixture {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn classes(&self) -> u32 {
        0
    }

    fn denoise(&self, x: &Batch, level: &Level, _: &Conditioning) -> Result<Batch, DenoiserError> {
        let data = x
            .iter()
            .flat_map(|sample| self.posterior(sample, level))
            .collect();
        Ok(Batch::new(data, x.samples()))
    }
}

/// The orthonormal two-dimensional cosine basis (DCT-II) of `side` x `side` images, one row a basis image.
fn cosines(side: usize) -> Vec<Vec<f64>> {
    let wave = |k: usize, i: usize| {
        let scale = if k == 0 { 1.0 } else { 2.0 };
        let phase = PI * k as f64 * (2 * i + 1) as f64 / (2 * side) as f64;
        libm::sqrt(scale / side as f64) * libm::cos(phase)
    };
    (0..side * side)
        .map(|k| {
            (0..side * side)
                .map(|i| wave(k / side, i / side) * wave(k % side, i % side))
                .collect()
        })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
