//! The Midpoint Error Proxy of the HSO paper (arXiv 2511.11688).
//!
//! `MEP = sum_i e(mid_i) (exp(lambda_{i+1}) - exp(lambda_i))` with `mid_i` halfway between the two: the exponential of the
//! data-prediction ODE is integrated exactly, the network's error is frozen at the midpoint. Smooth, with a
//! tridiagonal Hessian.

use super::derivatives::Derivatives;
use super::{ErrorModel, Objective};

/// The proxy with error model `e = sigma^p / alpha`; the paper uses `p = 2`.
#[derive(Clone, Copy, Debug)]
pub struct Mep {
    error: ErrorModel,
}

impl Mep {
    #[must_use]
    pub fn new(p: f64) -> Self {
        Self {
            error: ErrorModel { p },
        }
    }
}

impl Objective for Mep {
    fn value(&self, lambdas: &[f64]) -> f64 {
        let mut total = 0.0;
        let mut start = libm::exp(lambdas[0]);
        for &lambda in &lambdas[1..] {
            let end = libm::exp(lambda);
            // exp(2 mid) is the product of the two exponentials.
            total += self.error.at_snr(start * end).value * (end - start);
            start = end;
        }
        total
    }

    fn differentiate(&self, lambdas: &[f64], _smoothing: f64, out: &mut Derivatives) {
        let mut start = libm::exp(lambdas[0]);
        for (i, &lambda) in lambdas[1..].iter().enumerate() {
            let end = libm::exp(lambda);
            let e = self.error.at_snr(start * end);
            let step = end - start;
            let half_first = 0.5 * e.first;
            let quarter = 0.25 * e.second * step;
            let cross = quarter + half_first * step;
            out.add(
                i as isize,
                e.value * step,
                &[
                    half_first * step - e.value * start,
                    half_first * step + e.value * end,
                ],
                &[
                    [quarter - (e.first + e.value) * start, cross],
                    [cross, quarter + (e.first + e.value) * end],
                ],
            );
            start = end;
        }
    }

    fn half_bandwidth(&self) -> usize {
        1
    }

    fn has_kinks(&self) -> bool {
        false
    }
}
