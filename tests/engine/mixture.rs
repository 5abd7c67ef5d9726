//! A denoiser that is exact: the posterior mean of a mixture of Gaussians.

use fewstep::solver::Level;
use serde::Deserialize;

/// A mixture of isotropic Gaussians in as many dimensions as its means have.
#[derive(Clone, Deserialize)]
pub struct Mixture {
    pub weights: Vec<f64>,
    pub means: Vec<Vec<f64>>,
    pub deviations: Vec<f64>,
}

impl Mixture {
    /// `E[x_0 | x]`, point by point.
    pub fn clean(&self, x: &[f64], level: &Level) -> Vec<f64> {
        x.chunks_exact(self.means[0].len())
            .flat_map(|point| self.clean_point(point, level))
            .collect()
    }

    fn clean_point(&self, x: &[f64], level: &Level) -> Vec<f64> {
        let (alpha, sigma) = (level.alpha, level.sigma);
        let components = || self.weights.iter().zip(&self.means).zip(&self.deviations);
        let variance = |s: f64| alpha * alpha * s * s + sigma * sigma;
        let logits: Vec<f64> = components()
            .map(|((w, mean), s)| {
                let square: f64 = x
                    .iter()
                    .zip(mean)
                    .map(|(x, m)| (x - alpha * m) * (x - alpha * m))
                    .sum();
                libm::log(*w)
                    - 0.5 * x.len() as f64 * libm::log(variance(*s))
                    - square / (2.0 * variance(*s))
            })
            .collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = logits.iter().map(|l| libm::exp(l - most)).collect();
        let total: f64 = shares.iter().sum();
        (0..x.len())
            .map(|d| {
                components()
                    .zip(&shares)
                    .map(|(((_, mean), s), share)| {
                        let gain = alpha * s * s / variance(*s);
                        share / total * (mean[d] + gain * (x[d] - alpha * mean[d]))
                    })
                    .sum()
            })
            .collect()
    }
}
