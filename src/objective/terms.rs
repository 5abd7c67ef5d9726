//! Objectives that are sums of local terms over a multistep solver's weights: written once, evaluated or differentiated.

use super::Objective;
use super::derivatives::Derivatives;
use super::jet::Jet;
use super::lagrange::{NODE_WINDOW, STEP_WINDOW};

/// A sum of terms, each of the points of one node's window.
pub trait TermSum: Send + Sync {
    /// Hands every term to `emit` with the index of the first point of its window. Kinks `|c|` are rounded to
    /// `sqrt(c^2 + smoothing^2)`. `K` and `W` are the windows' sizes, or both zero for values alone.
    fn terms<const K: usize, const W: usize>(
        &self,
        lambdas: &[f64],
        smoothing: f64,
        emit: impl FnMut(isize, Jet<W>),
    );
}

impl<T: TermSum> Objective for T {
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
