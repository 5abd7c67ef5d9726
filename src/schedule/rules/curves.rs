//! Rules that only see the noise levels of the two ends.

use super::{ramp, stretched};
use crate::schedule::NoiseSchedule;
use std::f64::consts::PI;

/// A curve from the noisiest level to the cleanest.
#[derive(Debug)]
pub(super) enum Curve {
    /// `(smax^(1/rho) + r (smin^(1/rho) - smax^(1/rho)))^rho`.
    Karras { rho: f64 },
    /// `exp((1 - r)^rho ln(smax / smin) + ln(smin))`; uniform log-SNR at `rho = 1`.
    Polyexponential { rho: f64 },
    /// `tan(r atan(smin) + (1 - r) atan(smax))`.
    KlOptimal,
    /// Linear down to `1 - 0.025` over half the steps, then quadratic to 0.
    LinearQuadratic,
    /// Two arctangent slopes joined in the middle.
    BongTangent,
}

const THRESHOLD: f64 = 0.025;

impl Curve {
    /// The curve over `points` points between two half log-SNRs.
    pub(super) fn matched(
        &self,
        noise: &NoiseSchedule,
        points: usize,
        first: f64,
        last: f64,
    ) -> Vec<f64> {
        let (smax, smin) = (libm::exp(-first), libm::exp(-last));
        match *self {
            Self::Karras { rho } => {
                let root = |sigma: f64| libm::pow(sigma, 1.0 / rho);
                ramp(points)
                    .map(|r| -rho * libm::log(root(smax) + r * (root(smin) - root(smax))))
                    .collect()
            }
            Self::Polyexponential { rho } => ramp(points)
                .map(|r| last + libm::pow(1.0 - r, rho) * (first - last))
                .collect(),
            Self::KlOptimal => ramp(points)
                .map(|r| {
                    -libm::log(libm::tan(
                        r * libm::atan(smin) + (1.0 - r) * libm::atan(smax),
                    ))
                })
                .collect(),
            // These two are lists from 1 to 0 that their tools scale by the largest sigma; between other ends they
            // are stretched in that same sigma.
            Self::LinearQuadratic => between(noise, &linear_quadratic(points - 1), first, last),
            Self::BongTangent => between(noise, &bong_tangent(points - 1), first, last),
        }
    }

    /// `n` evaluations over the model's whole range.
    pub(super) fn native(
        &self,
        noise: &NoiseSchedule,
        n: usize,
        first: f64,
        last: f64,
    ) -> Option<Vec<f64>> {
        let list = match self {
            Self::LinearQuadratic => linear_quadratic(n),
            Self::BongTangent => bong_tangent(n),
            _ => return Some(self.matched(noise, n, first, last)),
        };
        // The list has n + 1 entries; its 0 is the clean end that follows.
        let top = noise.sigma(first);
        let mut lambdas: Vec<f64> = list[..n]
            .iter()
            .map(|level| noise.lambda_of_sigma(level * top))
            .collect();
        lambdas[0] = first;
        lambdas
            .last()
            .is_some_and(|l| *l <= last)
            .then_some(lambdas)
    }
}

/// A falling list stretched in sigma between two half log-SNRs.
fn between(noise: &NoiseSchedule, list: &[f64], first: f64, last: f64) -> Vec<f64> {
    let levels = stretched(list, noise.sigma(first), noise.sigma(last));
    levels
        .into_iter()
        .map(|sigma| noise.lambda_of_sigma(sigma))
        .collect()
}

/// `n + 1` levels from 1 to 0.
pub(super) fn linear_quadratic(n: usize) -> Vec<f64> {
    if n == 1 {
        return vec![1.0, 0.0];
    }
    let (steps, linear) = (n as f64, (n / 2) as f64);
    let quadratic = steps - linear;
    let step_difference = linear - THRESHOLD * steps;
    let coefficient = step_difference / (linear * quadratic * quadratic);
    let slope = THRESHOLD / linear - 2.0 * step_difference / (quadratic * quadratic);
    let offset = coefficient * linear * linear;
    (0..=n)
        .map(|i| {
            let i = i as f64;
            let noise_removed = if i < linear {
                i * THRESHOLD / linear
            } else {
                coefficient * i * i + slope * i + offset
            };
            1.0 - noise_removed.min(1.0)
        })
        .collect()
}

/// `n + 1` levels from 1 over 0.5 to 0, pivots at 0.6, slopes 0.2 at 40 steps.
pub(super) fn bong_tangent(n: usize) -> Vec<f64> {
    let steps = n + 2;
    let pivot = (steps as f64 * 0.6) as usize;
    let slope = 0.2 / (steps as f64 / 40.0);
    let midpoint = (steps as f64 * 0.6) as usize;
    let first_half = tangent(midpoint, slope, pivot as f64, 1.0, 0.5);
    let second_pivot = pivot as f64 - midpoint as f64;
    let second_half = tangent(steps - midpoint, slope, second_pivot, 0.5, 0.0);
    let mut levels = first_half;
    levels.pop();
    levels.extend(second_half);
    levels
}

fn tangent(steps: usize, slope: f64, pivot: f64, start: f64, end: f64) -> Vec<f64> {
    let curve = |x: f64| 0.5 - libm::atan(slope * (x - pivot)) / PI;
    let (most, least) = (curve(0.0), curve(steps as f64 - 1.0));
    (0..steps)
        .map(|x| (curve(x as f64) - least) / (most - least) * (start - end) + end)
        .collect()
}
