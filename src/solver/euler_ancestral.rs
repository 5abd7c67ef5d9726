//! Euler ancestral sampling (k-diffusion's `euler_ancestral`, diffusers' `EulerAncestralDiscreteScheduler`, eta = 1).
//!
//! `sigma_up` and `sigma_down` of those are what the posterior of the diffusion process has, so that a step is also the
//! first of DPM-Solver++ for the SDE, and is defined at pure noise and for every family.

use super::{Brownian, Denoise, Level, Space};

pub(super) fn sample<X: Space, E>(
    levels: &[Level],
    mut x: X,
    brownian: &mut dyn Brownian<X>,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    for pair in levels.windows(2) {
        let (s, t) = (&pair[0], &pair[1]);
        let x0 = denoise(&x, s)?;
        x = if t.is_clean() {
            x0
        } else {
            let noise = brownian.noise(s, t);
            X::combine(&step(&x, &x0, &noise, s, t))
        };
    }
    Ok(x)
}

/// `x_t = sigma_t / sigma_s e^-h x_s + alpha_t (1 - e^-2h) x_0 + sigma_t sqrt(1 - e^-2h) noise`, where with
/// `rho = sigma / alpha`: `rho_down = rho_t e^-h` and `rho_up = rho_t sqrt(1 - e^-2h)`.
pub(super) fn step<'a, X>(
    x: &'a X,
    x0: &'a X,
    noise: &'a X,
    s: &Level,
    t: &Level,
) -> [(f64, &'a X); 3] {
    let h = t.lambda() - s.lambda();
    let fresh = -libm::expm1(-2.0 * h);
    [
        (t.sigma / s.sigma * libm::exp(-h), x),
        (t.alpha * fresh, x0),
        (t.sigma * libm::sqrt(fresh), noise),
    ]
}
