//! Rules that space points on the model's clock: training timesteps where there are any, else time itself.

use super::beta_quantile::beta_quantile;
use super::ramp;
use crate::schedule::NoiseSchedule;

/// A spacing of times.
#[derive(Debug)]
pub(super) enum Grid {
    /// `T // N * i + 1`, from below.
    Leading,
    /// `T - i T / N`, from above.
    Trailing,
    /// Evenly from the last training timestep to the first.
    Linspace,
    /// Evenly over N+1 times from last to first, without the first.
    SgmUniform,
    /// Every `T / N`th training timestep from above, truncated.
    Simple,
    /// Evenly in the square root of time.
    Quadratic,
    /// Quantiles of a beta distribution over training timesteps, rounded.
    Beta { alpha: f64, beta: f64 },
}

/// Timesteps of models that have no training grid of their own.
const NOMINAL_STEPS: f64 = 1000.0;

impl Grid {
    /// Half log-SNRs of `n` evaluations.
    pub(super) fn native(&self, noise: &NoiseSchedule, n: usize) -> Option<Vec<f64>> {
        let (low, high) = noise.t_range();
        let steps = noise
            .grid_steps()
            .map_or(NOMINAL_STEPS, |steps| steps as f64);
        let count = n as f64;
        // The time of training timestep `k` (0 is the cleanest).
        let time = |k: f64| (k + 1.0) / steps;
        let times: Vec<f64> = match *self {
            Self::Leading => {
                let stride = libm::floor(steps / count);
                (0..n)
                    .rev()
                    .map(|i| time(i as f64 * stride + 1.0))
                    .collect()
            }
            Self::Trailing => (0..n)
                .map(|i| time(libm::rint(steps - i as f64 * steps / count) - 1.0))
                .collect(),
            Self::Linspace => ramp(n).map(|r| time((steps - 1.0) * (1.0 - r))).collect(),
            Self::SgmUniform => (0..n)
                .map(|i| time((steps - 1.0) * (1.0 - i as f64 / count)))
                .collect(),
            Self::Simple => (0..n)
                .map(|i| time(steps - 1.0 - libm::floor(i as f64 * steps / count)))
                .collect(),
            Self::Quadratic => quadratic(n, high, low),
            Self::Beta { alpha, beta } => (0..n)
                .map(|i| {
                    let quantile = beta_quantile(1.0 - i as f64 / count, alpha, beta);
                    time(libm::rint(quantile * (steps - 1.0)))
                })
                .collect(),
        };
        let inside = |t: f64| t >= low - 1e-12;
        times.iter().all(|&t| inside(t)).then(|| {
            times
                .iter()
                .map(|&t| noise.lambda(t.clamp(low, high)))
                .collect()
        })
    }

    /// The spacing over `points` points between two times.
    pub(super) fn matched(
        &self,
        noise: &NoiseSchedule,
        points: usize,
        t_max: f64,
        t_min: f64,
    ) -> Vec<f64> {
        let times: Vec<f64> = match *self {
            // Between fixed ends the five uniform spacings are one.
            Self::Leading | Self::Trailing | Self::Linspace | Self::SgmUniform | Self::Simple => {
                ramp(points).map(|r| t_max + r * (t_min - t_max)).collect()
            }
            Self::Quadratic => quadratic(points, t_max, t_min),
            Self::Beta { alpha, beta } => ramp(points)
                .map(|r| t_min + (t_max - t_min) * beta_quantile(1.0 - r, alpha, beta))
                .collect(),
        };
        times.into_iter().map(|t| noise.lambda(t)).collect()
    }
}

fn quadratic(points: usize, t_max: f64, t_min: f64) -> Vec<f64> {
    let (high, low) = (libm::sqrt(t_max), libm::sqrt(t_min));
    ramp(points)
        .map(|r| {
            let root = high + r * (low - high);
            root * root
        })
        .collect()
}
