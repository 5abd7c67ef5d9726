//! DEIS, tAB in log-rho (arXiv 2204.13902): the noise prediction is a polynomial in `ln(rho)`, `rho = sigma / alpha`,
//! through the last outputs, and is integrated exactly; orders of single steps as in diffusers' `DEISMultistepScheduler`.
//!
//! An output at pure noise lies at an infinite `ln(rho)` and is left out, which is one order less. diffusers has no clean
//! end here; the integral has one, and its limit is taken.

use super::{Denoise, Level, Space, ddim, lagrange, order_of_step, prediction, remember};

pub(super) fn sample<X: Space, E>(
    order: usize,
    levels: &[Level],
    mut x: X,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    assert!(
        (1..=3).contains(&order),
        "deis has orders 1 to 3, not {order}"
    );
    let steps = levels.len().saturating_sub(1);
    let mut noises = Vec::new();
    for i in 0..steps {
        let (s, t) = (&levels[i], &levels[i + 1]);
        let x0 = denoise(&x, s)?;
        remember(&mut noises, prediction::noise(&x, &x0, s), order);
        let p = order_of_step(order, i, steps, false);
        let nodes: Vec<(f64, &X)> = (0..p)
            .map(|k| (s.lambda() - levels[i - k].lambda(), &noises[k]))
            .filter(|(u, _)| u.is_finite())
            .collect();
        x = if nodes.len() == 1 || s.alpha == 0.0 {
            ddim::step(&x, &x0, s, t)
        } else {
            multistep(&x, s, t, &nodes)
        };
    }
    Ok(x)
}

/// `x_t = alpha_t (x_s / alpha_s + sum_k eps_k int L_k(ln rho) d rho)` from `rho_s` to `rho_t`; nodes are at
/// `u = ln(rho / rho_s)`.
fn multistep<X: Space>(x: &X, s: &Level, t: &Level, nodes: &[(f64, &X)]) -> X {
    let (us, noises): (Vec<f64>, Vec<&X>) = nodes.iter().copied().unzip();
    let moments = moments(s.lambda() - t.lambda());
    let coefficient = |l: Vec<f64>| {
        let integral: f64 = l.iter().zip(moments).map(|(c, m)| c * m).sum();
        t.alpha * s.sigma / s.alpha * integral
    };
    let mut terms = vec![(t.alpha / s.alpha, x)];
    terms.extend(
        lagrange::basis(&us)
            .into_iter()
            .map(coefficient)
            .zip(noises),
    );
    X::combine(&terms)
}

/// `int_0^u v^i e^v dv` for `i = 0, 1, 2`.
fn moments(u: f64) -> [f64; 3] {
    if u == f64::NEG_INFINITY {
        return [-1.0, 1.0, -2.0];
    }
    let (e, zeroth) = (libm::exp(u), libm::expm1(u));
    let first = u * e - zeroth;
    [zeroth, first, u * u * e - 2.0 * first]
}
