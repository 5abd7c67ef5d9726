//! The midpoint variant of the multistep bound: `sum_n e(mid_n) |sum_s J_{s,n}|`.
//!
//! The objective whose search collapses without the spacing penalty (the HSO paper's ablation): weights of opposite
//! sign can cancel, so bunched points look free.

use super::derivatives::Derivatives;
use super::jet::Jet;
use super::lagrange::{NODE_SLOT, NODE_WINDOW, STEP_WINDOW, StepWeights, node_weight};
use super::{ErrorModel, Objective};

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

    /// Hands every node's term, with the first point of its window, to `emit`. `K`, `W` are both zero for values alone.
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

impl Objective for UniPcMidpoint {
    fn value(&self, lambdas: &[f64]) -> f64 {
        let mut total = 0.0;
        self.terms::<0, 0>(lambdas, 0.0, |_, term| total += term.value);
        total
    }

    fn differentiate(&self, lambdas: &[f64], smoothing: f64, out: &mut Derivatives) {
        self.terms::<STEP_WINDOW, NODE_WINDOW>(lambdas, smoothing, |first, term| {
            out.add(first, term.value, &term.gradient, &term.hessian);
        });
    }

    fn half_bandwidth(&self) -> usize {
        NODE_WINDOW - 1
    }

    fn has_kinks(&self) -> bool {
        true
    }
}
