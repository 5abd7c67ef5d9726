//! iPNDM (arXiv 2204.13902): Adams-Bashforth on the slope, with the weights of equal steps whatever the steps are.
//!
//! On variance-preserving models it is diffusers' `IPNDMScheduler` (order 4): its `alphas` and `betas` are `alpha` and
//! `sigma`, its `ets` the slope. Like there the order rises with the first steps and stays to the last one.

use super::line::Line;
use super::{Denoise, Level, Space, ddim, remember};

/// Weights of the slopes, the newest first, by order.
const ADAMS_BASHFORTH: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

pub(super) fn sample<X: Space, E>(
    order: usize,
    levels: &[Level],
    mut x: X,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    assert!(
        (1..=4).contains(&order),
        "ipndm has orders 1 to 4, not {order}"
    );
    let line = Line::of(levels);
    let mut slopes = Vec::new();
    for (i, pair) in levels.windows(2).enumerate() {
        let (s, t) = (&pair[0], &pair[1]);
        let x0 = denoise(&x, s)?;
        remember(&mut slopes, line.derivative(&x, &x0, s), order);
        let weights = ADAMS_BASHFORTH[order.min(i + 1) - 1];
        x = if weights.len() == 1 {
            // The same, and defined at pure noise too.
            ddim::step(&x, &x0, s, t)
        } else {
            let (scale, dt) = line.step(s, t);
            let mut terms = vec![(scale, &x)];
            terms.extend(weights.iter().map(|w| w * dt).zip(&slopes));
            X::combine(&terms)
        };
    }
    Ok(x)
}
