//! From what a network predicts to the clean image, and from that to the noise.
//!
//! With `x = alpha x_0 + sigma noise` a network predicts the noise, `v = alpha noise - sigma x_0` (arXiv 2202.00512), the
//! clean image, the flow `noise - x_0`, or the inner part of EDM's preconditioned denoiser (arXiv 2206.00364, table 1).

use super::{Level, Space};
use crate::schedule::Prediction;

/// Standard deviation of the data that EDM's preconditioning assumes.
const SIGMA_DATA: f64 = 0.5;

/// `x_0` of a network's `output` at state `x`. At pure noise (alpha = 0) a noise prediction determines none.
pub fn clean<X: Space>(prediction: Prediction, output: &X, x: &X, level: &Level) -> X {
    let (alpha, sigma) = (level.alpha, level.sigma);
    let (of_x, of_output) = match prediction {
        Prediction::Epsilon => (1.0 / alpha, -sigma / alpha),
        Prediction::VPrediction => {
            let norm = alpha * alpha + sigma * sigma;
            (alpha / norm, -sigma / norm)
        }
        Prediction::Sample => return output.clone(),
        Prediction::FlowPrediction => (1.0 / (alpha + sigma), -sigma / (alpha + sigma)),
        Prediction::Edm => {
            let rho = sigma / alpha;
            let norm = rho * rho + SIGMA_DATA * SIGMA_DATA;
            let (c_skip, c_out) = (
                SIGMA_DATA * SIGMA_DATA / norm,
                rho * SIGMA_DATA / libm::sqrt(norm),
            );
            (c_skip / alpha, c_out)
        }
    };
    X::combine(&[(of_x, x), (of_output, output)])
}

/// The noise `(x - alpha x_0) / sigma`.
pub fn noise<X: Space>(x: &X, x0: &X, level: &Level) -> X {
    X::combine(&[(1.0 / level.sigma, x), (-level.alpha / level.sigma, x0)])
}
