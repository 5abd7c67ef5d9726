//! DPM-Solver++ multistep over two outputs (midpoint) and three (arXiv 2211.01095), the orders of single steps as in
//! diffusers' `DPMSolverMultistepScheduler`.
//!
//! A step that starts or ends at an infinite half log-SNR needs no special case: its ratio of steps is infinite and the
//! differences over it vanish, and a last step to the clean end is of first order.

use super::{Denoise, Level, Space, ddim, order_of_step, remember};

pub(super) fn sample<X: Space, E>(
    order: usize,
    levels: &[Level],
    mut x: X,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    let steps = levels.len().saturating_sub(1);
    let ends_clean = levels.last().is_some_and(Level::is_clean);
    let mut m = Vec::new();
    for i in 0..steps {
        let (s, t) = (&levels[i], &levels[i + 1]);
        remember(&mut m, denoise(&x, s)?, order);
        x = match order_of_step(order, i, steps, ends_clean) {
            1 => ddim::step(&x, &m[0], s, t),
            2 => second(&x, &m, &levels[i - 1..=i + 1]),
            _ => third(&x, &m, &levels[i - 2..=i + 1]),
        };
    }
    Ok(x)
}

/// Algorithm 2 in its midpoint form; `m` is the outputs at `s_0, s_1` and `levels` are `s_1, s_0, t`.
fn second<X: Space>(x: &X, m: &[X], levels: &[Level]) -> X {
    let [s1, s0, t] = [0, 1, 2].map(|k| &levels[k]);
    let (h, h_0) = (t.lambda() - s0.lambda(), s0.lambda() - s1.lambda());
    let r0 = h_0 / h;
    // D0 = m0, D1 = (m0 - m1) / r0;  x_t = sigma_t / sigma_s0 x - alpha_t (e^-h - 1) (D0 + D1 / 2)
    let phi_1 = libm::expm1(-h);
    let d1 = -0.5 * t.alpha * phi_1 / r0;
    X::combine(&[
        (t.sigma / s0.sigma, x),
        (-t.alpha * phi_1 + d1, &m[0]),
        (-d1, &m[1]),
    ])
}

/// Three outputs; `m` is those at `s_0, s_1, s_2` and `levels` are `s_2, s_1, s_0, t`.
///
/// Called of third order, as published and as everywhere in use, it converges at second order with a smaller error than two
/// outputs give: `D2` is half of `h^2` times the second derivative but has the weight of all of it. Doubled it would be third.
fn third<X: Space>(x: &X, m: &[X], levels: &[Level]) -> X {
    let [s2, s1, s0, t] = [0, 1, 2, 3].map(|k| &levels[k]);
    let h = t.lambda() - s0.lambda();
    let (h_0, h_1) = (s0.lambda() - s1.lambda(), s1.lambda() - s2.lambda());
    let (r0, r1) = (h_0 / h, h_1 / h);
    // D1_0 = (m0 - m1) / r0, D1_1 = (m1 - m2) / r1
    // D1 = D1_0 + r0 / (r0 + r1) (D1_0 - D1_1), D2 = (D1_0 - D1_1) / (r0 + r1)
    let phi_1 = libm::expm1(-h);
    let phi_2 = phi_1 / h + 1.0;
    let phi_3 = phi_2 / h - 0.5;
    // x_t = sigma_t / sigma_s0 x - alpha_t (phi_1 m0 - phi_2 D1 + phi_3 D2), collected by D1_0 and D1_1
    let bend = t.alpha * (phi_2 * r0 - phi_3) / (r0 + r1);
    let (d1_0, d1_1) = ((t.alpha * phi_2 + bend) / r0, bend / r1);
    X::combine(&[
        (t.sigma / s0.sigma, x),
        (-t.alpha * phi_1 + d1_0, &m[0]),
        (-d1_0 - d1_1, &m[1]),
        (d1_1, &m[2]),
    ])
}
