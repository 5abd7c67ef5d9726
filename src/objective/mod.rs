//! What a schedule search can minimise: error proxies that see only the points of a schedule, never a model.
//!
//! Every proxy is a function of the half log-SNRs of the points alone (the variance-preserving pair of lambda is used for
//! every family: with EDM's own `alpha = 1` the sums telescope and every schedule scores the same). [`mep`] is the HSO
//! paper's proxy; [`unipc_bound`] and [`unipc_midpoint`] are tied to a multistep solver through [`lagrange`] weights.
//! [`spacing`] is the paper's penalty on short steps. Called by `hso`, and by whoever scores a given schedule.

pub mod derivatives;
mod jet;
mod lagrange;
pub mod mep;
pub mod spacing;
mod terms;
pub mod unipc_bound;
pub mod unipc_midpoint;

use derivatives::Derivatives;

/// A function of the points of a schedule, with exact derivatives in its interior points.
pub trait Objective: Send + Sync {
    /// Value at `lambdas`: half log-SNRs, ascending, at least two.
    fn value(&self, lambdas: &[f64]) -> f64;

    /// Adds value, gradient and Hessian at `lambdas` to `out`. Kinks `|c|` are rounded to `sqrt(c^2 + smoothing^2)`.
    fn differentiate(&self, lambdas: &[f64], smoothing: f64, out: &mut Derivatives);

    /// How far from the diagonal the Hessian reaches.
    fn half_bandwidth(&self) -> usize;

    /// Whether the objective has kinks, so that its search must round them first.
    fn has_kinks(&self) -> bool;
}

/// `e(lambda) = sigma^p / alpha` of the variance-preserving pair: the assumed size of a network's error.
///
/// `alpha^2 = 1 / (1 + exp(-2 lambda))`, `sigma^2 = 1 / (1 + exp(2 lambda))`.
#[derive(Clone, Copy, Debug)]
struct ErrorModel {
    p: f64,
}

/// A value with its first two derivatives in lambda.
#[derive(Clone, Copy, Debug)]
pub struct Taylor {
    pub value: f64,
    pub first: f64,
    pub second: f64,
}

impl ErrorModel {
    fn at(self, lambda: f64) -> Taylor {
        self.at_snr(libm::exp(2.0 * lambda))
    }

    /// The same, at a given signal-to-noise ratio `exp(2 lambda)`.
    fn at_snr(self, snr: f64) -> Taylor {
        let sigma2 = 1.0 / (1.0 + snr);
        let alpha2 = snr * sigma2;
        let sigma_p = if self.p == 2.0 {
            sigma2
        } else {
            libm::pow(sigma2, 0.5 * self.p)
        };
        let value = sigma_p / libm::sqrt(alpha2);
        // d ln(sigma) = -alpha^2 and d ln(alpha) = sigma^2, so e'/e = -k with k = p alpha^2 + sigma^2.
        let k = self.p * alpha2 + sigma2;
        let k_slope = 2.0 * (self.p - 1.0) * alpha2 * sigma2;
        Taylor {
            value,
            first: -k * value,
            second: (k * k - k_slope) * value,
        }
    }
}
