//! The lower level of HSO: from the two times of a psi to the best schedule between them.
//!
//! The start is EDM-spaced; [`trust_region`] refines it. What a schedule costs is the objective plus the spacing penalty.
//! Called for every member of every generation, from several threads.

use super::trust_region::{self, Spacing, Workspace};
use super::{Method, Problem, Psi};
use crate::objective::spacing;
use crate::schedule::NoiseSchedule;

/// Newton steps the lower level may take. MEP needs about ten, objectives with kinks up to a hundred where they have a
/// minimum; SciPy's `trust-constr` may take 80 in the published settings.
const LOWER_ITERATIONS: usize = 120;
/// Least half log-SNR gap, as a fraction of the mean gap: keeps the order strict where an objective would merge points.
const ORDER_FLOOR: f64 = 1e-6;
/// Share of a uniform schedule's gap that `hso-constrained` asks for at most, unless a spacing is given.
const DEFAULT_CONSTRAINT_SHARE: f64 = 0.5;
/// Relative shortfall at which an enforced spacing still counts as met.
const ENFORCED_ROUNDING: f64 = 1e-9;
/// Newton steps of the one search that finds out whether an objective merges points.
const PROBE_ITERATIONS: usize = 1000;
/// Points nearer than this share of the mean gap have merged.
const MERGED: f64 = 0.03;

/// A psi's schedule with its cost.
pub(super) struct Candidate {
    pub lambdas: Vec<f64>,
    pub objective: f64,
    pub penalty: f64,
    /// The gap in `t` that was held as a constraint.
    pub enforced: Option<f64>,
}

impl Candidate {
    pub fn fitness(&self) -> f64 {
        self.objective + self.penalty
    }
}

/// A problem with what its lower level is known to do.
pub(super) struct LowerLevel<'a> {
    problem: &'a Problem,
    /// Whether the objective has no minimum that keeps points apart: decided once, in the middle of the box, so that
    /// every psi is treated alike.
    merges: bool,
}

impl<'a> LowerLevel<'a> {
    /// Probes the objective, where the answer would matter.
    pub fn new(problem: &'a Problem) -> Self {
        let mut lower = Self {
            problem,
            merges: false,
        };
        if problem.method == Method::HsoConstrained || problem.gamma == 0.0 {
            return lower;
        }
        let middle = problem
            .bounds
            .as_genes()
            .map(|(low, high)| 0.5 * (low + high));
        let psi = Psi::from_genes(&middle);
        let mut lambdas = edm_spacing(&problem.noise, &psi, problem.points);
        lower.descend_free(PROBE_ITERATIONS, &mut lambdas);
        let merged = MERGED * mean_gap(&lambdas);
        lower.merges = lambdas.windows(2).any(|pair| pair[1] - pair[0] < merged);
        lower
    }

    /// The lower level: from psi's EDM spacing to the objective's minimum between the same ends.
    pub fn refine(&self, psi: &Psi) -> Candidate {
        let start = edm_spacing(&self.problem.noise, psi, self.problem.points);
        match self.problem.method {
            Method::Hso => self.refine_free(psi, start),
            Method::HsoConstrained => self.refine_constrained(psi, start),
        }
    }

    /// The published lower level. It sees no spacing, so its result stands, unless the objective merges points. The
    /// published reference then returns whatever crease its local solver stalled on, and the fitness picks among those
    /// stalls; the best of them that keeps the spacing is the constrained minimum, so that competes here with the merged
    /// schedule under the penalised fitness.
    fn refine_free(&self, psi: &Psi, start: Vec<f64>) -> Candidate {
        let mut lambdas = start.clone();
        self.descend_free(LOWER_ITERATIONS, &mut lambdas);
        let free = self.candidate(lambdas, None);
        if !self.merges || free.penalty == 0.0 {
            return free;
        }
        let spaced = self.refine_spaced(psi, start, self.problem.required_spacing());
        if spaced.fitness() < free.fitness() {
            spaced
        } else {
            free
        }
    }

    fn refine_constrained(&self, psi: &Psi, start: Vec<f64>) -> Candidate {
        let uniform_gap = (psi.t_max - psi.t_min) / (start.len() - 1) as f64;
        let least = self.problem.d_min.unwrap_or_else(|| {
            spacing::published_d_min(self.problem.nfe).min(DEFAULT_CONSTRAINT_SHARE * uniform_gap)
        });
        self.refine_spaced(psi, start, least)
    }

    /// The objective's minimum among schedules whose gaps are at least `least`, or the widest there are: uniform `t`.
    fn refine_spaced(&self, psi: &Psi, start: Vec<f64>, least: f64) -> Candidate {
        let uniform_gap = (psi.t_max - psi.t_min) / (start.len() - 1) as f64;
        // Within this of uniform there is nothing left to choose.
        let crowded = least >= uniform_gap * (1.0 - 1e-6);
        let least = least.min(uniform_gap);
        let mut lambdas = widened(&self.problem.noise, psi, start, least);
        if !crowded {
            let spacing = Spacing::Time {
                noise: &self.problem.noise,
                least,
            };
            self.descend(spacing, LOWER_ITERATIONS, &mut lambdas);
        }
        self.candidate(lambdas, Some(least))
    }

    /// Descends with nothing but the order to keep.
    fn descend_free(&self, iterations: usize, lambdas: &mut [f64]) {
        let least = ORDER_FLOOR * mean_gap(lambdas);
        self.descend(Spacing::Lambda { least }, iterations, lambdas);
    }

    fn descend(&self, spacing: Spacing<'_>, iterations: usize, lambdas: &mut [f64]) {
        let objective = self.problem.objective.as_ref();
        let mut work = Workspace::new(lambdas.len(), objective);
        trust_region::minimise(objective, spacing, iterations, lambdas, &mut work);
    }

    fn candidate(&self, lambdas: Vec<f64>, enforced: Option<f64>) -> Candidate {
        let objective = self.problem.objective.value(&lambdas);
        let penalty = if self.problem.gamma == 0.0 {
            0.0
        } else {
            let mut earlier = self.problem.noise.t(lambdas[0]);
            let gaps = lambdas[1..].iter().map(|&lambda| {
                let t = self.problem.noise.t(lambda);
                std::mem::replace(&mut earlier, t) - t
            });
            // An enforced spacing that is met to rounding is met.
            let rounding = if enforced.is_some() {
                ENFORCED_ROUNDING
            } else {
                0.0
            };
            let d_min = self.measure(enforced) * (1.0 - rounding);
            spacing::penalty(self.problem.gamma, d_min, gaps)
        };
        Candidate {
            lambdas,
            objective,
            penalty,
            enforced,
        }
    }

    /// The gap a schedule is measured by. Constraints without a spacing of the user's own are their own measure.
    pub fn measure(&self, enforced: Option<f64>) -> f64 {
        match (self.problem.method, enforced) {
            (Method::HsoConstrained, Some(least)) => self.problem.d_min.unwrap_or(least),
            _ => self.problem.required_spacing(),
        }
    }
}

fn mean_gap(lambdas: &[f64]) -> f64 {
    (lambdas[lambdas.len() - 1] - lambdas[0]) / (lambdas.len() - 1) as f64
}

/// EDM spacing between psi's two times: `(smax^(1/rho) + k/n (smin^(1/rho) - smax^(1/rho)))^rho`, as ascending lambdas.
fn edm_spacing(noise: &NoiseSchedule, psi: &Psi, points: usize) -> Vec<f64> {
    let (first, last) = (noise.lambda(psi.t_max), noise.lambda(psi.t_min));
    let root = |lambda: f64| libm::exp(-lambda / psi.rho);
    let (high, low) = (root(first), root(last));
    let n = (points - 1) as f64;
    let mut lambdas: Vec<f64> = (0..points)
        .map(|k| -psi.rho * libm::log(high + (low - high) * (k as f64 / n)))
        .collect();
    lambdas[0] = first;
    lambdas[points - 1] = last;
    lambdas
}

/// Moves a schedule towards uniform `t` just far enough that every gap has room above `least`.
fn widened(noise: &NoiseSchedule, psi: &Psi, mut lambdas: Vec<f64>, least: f64) -> Vec<f64> {
    let last = lambdas.len() - 1;
    let uniform_gap = (psi.t_max - psi.t_min) / last as f64;
    let t: Vec<f64> = lambdas.iter().map(|&lambda| noise.t(lambda)).collect();
    let smallest = t
        .windows(2)
        .map(|pair| pair[0] - pair[1])
        .fold(f64::INFINITY, f64::min);
    let wanted = least + 0.1 * (uniform_gap - least);
    if smallest >= wanted {
        return lambdas;
    }
    let weight = ((wanted - smallest) / (uniform_gap - smallest)).min(1.0);
    for (i, lambda) in lambdas.iter_mut().enumerate().take(last).skip(1) {
        let uniform = psi.t_max - uniform_gap * i as f64;
        *lambda = noise.lambda(t[i] + weight * (uniform - t[i]));
    }
    lambdas
}
