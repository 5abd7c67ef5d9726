//! Heun's method (arXiv 2206.00364, algorithm 1): a trapezoidal step that an Euler step predicts.
//!
//! The second evaluation falls away where the slope does not exist: at the clean end, and at the start from
//! variance-preserving pure noise, which lies infinitely far away.

use super::line::Line;
use super::{Denoise, Level, Space, ddim};

pub(super) fn sample<X: Space, E>(
    levels: &[Level],
    mut x: X,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    let line = Line::of(levels);
    for pair in levels.windows(2) {
        let (s, t) = (&pair[0], &pair[1]);
        let x0 = denoise(&x, s)?;
        let euler = ddim::step(&x, &x0, s, t);
        x = if is_euler(line, s, t) {
            euler
        } else {
            let d = line.derivative(&x, &x0, s);
            let d_t = line.derivative(&euler, &denoise(&euler, t)?, t);
            let (scale, dt) = line.step(s, t);
            X::combine(&[(scale, &x), (0.5 * dt, &d), (0.5 * dt, &d_t)])
        };
    }
    Ok(x)
}

/// Two an interval, one where the step is Euler's.
pub(super) fn evaluations(levels: &[Level]) -> usize {
    let line = Line::of(levels);
    levels
        .windows(2)
        .map(|pair| {
            if is_euler(line, &pair[0], &pair[1]) {
                1
            } else {
                2
            }
        })
        .sum()
}

fn is_euler(line: Line, s: &Level, t: &Level) -> bool {
    t.is_clean() || line.scale(s) == 0.0
}
