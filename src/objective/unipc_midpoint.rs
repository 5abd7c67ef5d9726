//! The midpoint variant of the multistep bound: `sum_n e(mid_n) |sum_s J_{s,n}|`.
//!
//! The objective whose search collapses without the spacing penalty (the HSO paper's ablation): weights of opposite
//! sign can cancel, so bunched points look free.

use super::ErrorModel;
use super::jet::Jet;
use super::lagrange::{NODE_SLOT, StepWeights, node_weight};
use super::terms::TermSum;

#[derive(Clone, Copy, Debug)]
pub struct UniPcMidpoint {
    error: ErrorModel,
    order: usize,
}

impl UniPcMidpoint {
    /// Error model `sigma^p / alpha`, solver order 1 to 3.
    #[must_use]
    pub fn new(p: f64, order: usize) -> Self {
        Self {
            error: ErrorModel { p },
            order,
        }
    }
}

impl TermSum for UniPcMidpoint {
    fn terms<const K: usize, const W: usize>(
        &self,
        lambdas: &[f64],
        smoothing: f64,
        mut emit: impl FnMut(isize, Jet<W>),
    ) {
        let steps = lambdas.len() - 1;
        let half = Jet::constant(0.5);
        let rounding = Jet::constant(smoothing * smoothing);
        let weights: Vec<StepWeights<K>> = (0..steps)
            .map(|s| StepWeights::new(lambdas, s, self.order))
            .collect();
        for n in 0..steps {
            let Some(weight) = node_weight::<K, W>(&weights, n, |_, _| true) else {
                continue;
            };
            let start = Jet::variable(lambdas[n], NODE_SLOT);
            let end = Jet::variable(lambdas[n + 1], NODE_SLOT + 1);
            let mid = half * (start + end);
            let error = mid.lift(self.error.at(mid.value));
            emit(n as isize - 2, error * (weight * weight + rounding).sqrt());
        }
    }
}
