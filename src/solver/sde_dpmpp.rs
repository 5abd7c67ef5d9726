//! SDE-DPM-Solver++(2M), midpoint (arXiv 2211.01095): as diffusers' `DPMSolverMultistepScheduler` with
//! `algorithm_type="sde-dpmsolver++"`.

use super::{Brownian, Denoise, Level, Space, euler_ancestral, order_of_step};

pub(super) fn sample<X: Space, E>(
    levels: &[Level],
    mut x: X,
    brownian: &mut dyn Brownian<X>,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    let steps = levels.len().saturating_sub(1);
    let ends_clean = levels.last().is_some_and(Level::is_clean);
    let mut m1: Option<X> = None;
    for i in 0..steps {
        let (s, t) = (&levels[i], &levels[i + 1]);
        let m0 = denoise(&x, s)?;
        x = if t.is_clean() {
            m0.clone()
        } else {
            let noise = brownian.noise(s, t);
            let mut terms = euler_ancestral::step(&x, &m0, &noise, s, t).to_vec();
            if let Some(m1) = m1
                .as_ref()
                .filter(|_| order_of_step(2, i, steps, ends_clean) == 2)
            {
                // + alpha_t (1 - e^-2h) D1 / 2 with D1 = (m0 - m1) / r0
                let (h, h_0) = (t.lambda() - s.lambda(), s.lambda() - levels[i - 1].lambda());
                let d1 = -0.5 * t.alpha * libm::expm1(-2.0 * h) * h / h_0;
                terms.extend([(d1, &m0), (-d1, m1)]);
            }
            X::combine(&terms)
        };
        m1 = Some(m0);
    }
    Ok(x)
}
