//! DDIM without noise (arXiv 2010.02502): the first-order exponential integrator that every multistep solver starts with.

use super::{Denoise, Level, Space};

pub(super) fn sample<X: Space, E>(
    levels: &[Level],
    mut x: X,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    for pair in levels.windows(2) {
        let x0 = denoise(&x, &pair[0])?;
        x = step(&x, &x0, &pair[0], &pair[1]);
    }
    Ok(x)
}

/// `x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) x_0` with `h = lambda_t - lambda_s` (arXiv 2211.01095 at first order).
pub(super) fn step<X: Space>(x: &X, x0: &X, s: &Level, t: &Level) -> X {
    let h = t.lambda() - s.lambda();
    X::combine(&[(t.sigma / s.sigma, x), (-t.alpha * libm::expm1(-h), x0)])
}
