//! The error bound of DM-NonUniform for UniPC (arXiv 2402.17376), as the HSO paper compares against.
//!
//! With `J_{s,n}` the weight of node `n` in step `s` and `e_n = e(lambda_n)`, it is the sum of
//!
//! - `|J e|` over first-order steps,
//! - `sqrt(sum_n (J_{s,n} e_n)^2)` over steps `s < trunc`, with `trunc = 3` for N <= 7, else 0,
//! - `|sum_s J_{s,n} e_n|` over nodes, `s` running over the other steps.

use super::ErrorModel;
use super::jet::Jet;
use super::lagrange::{NODE_SLOT, StepWeights, node_weight};
use super::terms::TermSum;

/// Up to this many intervals the first steps are bounded one by one.
const SHORT_SCHEDULE: usize = 7;
const TRUNCATED_STEPS: usize = 3;

#[derive(Clone, Copy, Debug)]
pub struct UniPcBound {
    error: ErrorModel,
    order: usize,
}

impl UniPcBound {
    /// Error model `sigma^p / alpha`, solver order 1 to 3.
    #[must_use]
    pub fn new(p: f64, order: usize) -> Self {
        Self {
            error: ErrorModel { p },
            order,
        }
    }
}

impl TermSum for UniPcBound {
    fn terms<const K: usize, const W: usize>(
        &self,
        lambdas: &[f64],
        smoothing: f64,
        mut emit: impl FnMut(isize, Jet<W>),
    ) {
        let steps = lambdas.len() - 1;
        let trunc = if steps <= SHORT_SCHEDULE {
            TRUNCATED_STEPS
        } else {
            0
        };
        let rounding = Jet::constant(smoothing * smoothing);
        let error = |slot: usize, n: usize| {
            Jet::<W>::variable(lambdas[n], slot).lift(self.error.at(lambdas[n]))
        };
        let weights: Vec<StepWeights<K>> = (0..steps)
            .map(|s| StepWeights::new(lambdas, s, self.order))
            .collect();
        let bounded_alone = |s: usize, step: &StepWeights<K>| step.order() == 1 || s < trunc;
        for (s, step) in weights.iter().enumerate() {
            if !bounded_alone(s, step) {
                continue;
            }
            let squares = step.nodes(s).fold(rounding, |sum, (n, weight)| {
                let contribution = weight.embed(0) * error(n + 2 - s, n);
                sum + contribution * contribution
            });
            emit(s as isize - 2, squares.sqrt());
        }
        for n in 0..steps {
            let grouped = |s: usize, step: &StepWeights<K>| !bounded_alone(s, step);
            let Some(weight) = node_weight::<K, W>(&weights, n, grouped) else {
                continue;
            };
            let contribution = weight * error(NODE_SLOT, n);
            emit(
                n as isize - 2,
                (contribution * contribution + rounding).sqrt(),
            );
        }
    }
}
