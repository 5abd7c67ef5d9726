//! Weights of a multistep exponential integrator: how much each past network output counts in each step.
//!
//! `J_{s,n}` is the integral over step `s` (from `lambda_s` to `lambda_{s+1}`) of `exp(lambda)` times the Lagrange basis
//! polynomial of node `n` on the last `k` nodes, `k = min(s + 1, N - s, order)`: solvers start and end at first order.
//! Closed forms follow from `H_k(h) = integral of x^k exp(x) over [0, h]`.

use super::Taylor;
use super::jet::Jet;

/// Points a step's weights depend on: `lambda_{s-2} .. lambda_{s+1}`.
pub const STEP_WINDOW: usize = 4;
/// Points a node's total weight depends on: `lambda_{n-2} .. lambda_{n+3}`.
pub const NODE_WINDOW: usize = 6;
/// Position of `lambda_n` in its node's window.
pub const NODE_SLOT: usize = 2;

/// The weights of one step, oldest node first; `nodes[i]` belongs to node `s + 1 - nodes.len() + i`.
pub struct StepWeights<const K: usize> {
    weights: [Jet<K>; 3],
    order: usize,
}

impl<const K: usize> StepWeights<K> {
    /// Weights of step `s` of a solver of the given order (1 to 3) on `lambdas`. `K` is [`STEP_WINDOW`] or 0.
    pub fn new(lambdas: &[f64], s: usize, order: usize) -> Self {
        let steps = lambdas.len() - 1;
        let order = order.min(s + 1).min(steps - s);
        let point = |back: usize| Jet::variable(lambdas[s - back], 2 - back);
        let start = point(0);
        let h = Jet::variable(lambdas[s + 1], 3) - start;
        let scale = start.exp();
        let moment = |k: i32| h.lift(exponential_moment(k, h.value));
        let zero = Jet::constant(0.0);
        let weights = match order {
            1 => [scale * moment(0), zero, zero],
            2 => {
                let a = start - point(1);
                [
                    -(scale * moment(1)) / a,
                    scale * (moment(1) + a * moment(0)) / a,
                    zero,
                ]
            }
            _ => {
                let (a, b) = (point(1) - point(2), start - point(1));
                let (h0, h1, h2) = (moment(0), moment(1), moment(2));
                [
                    scale * (h2 + b * h1) / (a * (a + b)),
                    -(scale * (h2 + (a + b) * h1)) / (a * b),
                    scale * (h2 + (b + b + a) * h1 + b * (a + b) * h0) / (b * (a + b)),
                ]
            }
        };
        Self { weights, order }
    }

    pub fn order(&self) -> usize {
        self.order
    }

    /// `(node, weight)` of each node that step `s` uses.
    pub fn nodes(&self, s: usize) -> impl Iterator<Item = (usize, Jet<K>)> + '_ {
        let first = s + 1 - self.order;
        self.weights[..self.order]
            .iter()
            .enumerate()
            .map(move |(i, &weight)| (first + i, weight))
    }
}

/// The total weight of node `n` over the steps that `counted` admits, in the node's own window of `W` points; nothing where
/// no such step uses the node.
pub fn node_weight<const K: usize, const W: usize>(
    steps: &[StepWeights<K>],
    n: usize,
    counted: impl Fn(usize, &StepWeights<K>) -> bool,
) -> Option<Jet<W>> {
    let mut total: Option<Jet<W>> = None;
    for (s, step) in steps.iter().enumerate().skip(n).take(3) {
        if !counted(s, step) {
            continue;
        }
        if let Some((_, weight)) = step.nodes(s).find(|(node, _)| *node == n) {
            let weight = weight.embed(s - n);
            total = Some(total.map_or(weight, |sum| sum + weight));
        }
    }
    total
}

/// `H_k(h)` with its derivatives: by its power series where the closed form would cancel.
fn exponential_moment(k: i32, h: f64) -> Taylor {
    let exp = libm::exp(h);
    let power = |j: i32| libm::pow(h, f64::from(j));
    let value = if h < 1.0 {
        moment_series(k, h)
    } else {
        match k {
            0 => libm::expm1(h),
            1 => (h - 1.0) * exp + 1.0,
            _ => (h * h - 2.0 * h + 2.0) * exp - 2.0,
        }
    };
    let slope_of_power = if k == 0 {
        0.0
    } else {
        f64::from(k) * power(k - 1)
    };
    Taylor {
        value,
        first: power(k) * exp,
        second: (slope_of_power + power(k)) * exp,
    }
}

/// `sum_j h^(k + 1 + j) / (j! (k + 1 + j))`; 20 terms are below rounding for `h < 1`.
fn moment_series(k: i32, h: f64) -> f64 {
    let mut power = libm::pow(h, f64::from(k + 1));
    let mut total = 0.0;
    for j in 0..20 {
        total += power / f64::from(k + 1 + j);
        power *= h / f64::from(j + 1);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_and_closed_form_of_the_moments_meet() {
        for k in 0..3 {
            let below = exponential_moment(k, 1.0 - 1e-13).value;
            let above = exponential_moment(k, 1.0).value;
            assert!((below - above).abs() < 1e-12, "k = {k}: {below} {above}");
        }
    }

    #[test]
    fn weights_of_a_step_integrate_the_exponential() {
        // Lagrange bases sum to one, so the weights of a step sum to exp(lambda_{s+1}) - exp(lambda_s).
        let lambdas = [-2.0, -1.1, 0.3, 1.4, 2.0, 3.1];
        for order in 1..=3 {
            for s in 0..5 {
                let step = StepWeights::<0>::new(&lambdas, s, order);
                let total: f64 = step.nodes(s).map(|(_, weight)| weight.value).sum();
                let want = libm::exp(lambdas[s + 1]) - libm::exp(lambdas[s]);
                assert!((total - want).abs() < 1e-12 * want.max(1.0));
            }
        }
    }
}
