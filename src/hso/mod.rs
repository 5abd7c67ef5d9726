//! Hierarchical Schedule Optimization (arXiv 2511.11688): a bi-level search for the points of a schedule.
//!
//! The upper level ([`differential_evolution`]) searches `psi = (rho, t_min, t_max)`. Every psi gives an EDM-spaced start
//! between the two times, which the lower level ([`trust_region`]) refines on the objective; the fitness that the upper
//! level sees is that objective plus the spacing penalty. [`Method::Hso`] is the published method: spacing counts in the
//! fitness alone. [`Method::HsoConstrained`] puts it into the lower level. Pure and deterministic; called by the
//! optimisation engine, never by a network handler directly.

mod bounds;
pub mod differential_evolution;
mod polish;
mod random;
pub mod trust_region;

pub use bounds::{Bounds, BoundsError, MIN_RANGE};
pub use differential_evolution::Stop;

use crate::objective::{Objective, spacing};
use crate::schedule::{NoiseSchedule, Schedule, ScheduleError, Terminal};
use differential_evolution::{Generation, Settings};
use std::ops::ControlFlow;
use trust_region::{Spacing, Status, Workspace};

/// Newton steps the lower level may take; SciPy's `trust-constr` has as many iterations in the published settings.
const LOWER_ITERATIONS: usize = 80;
/// Least half log-SNR gap, as a fraction of the mean gap: keeps the order strict where an objective would merge points.
const ORDER_FLOOR: f64 = 1e-6;
/// Share of a uniform schedule's gap that `hso-constrained` asks for at most, unless a spacing is given.
const DEFAULT_CONSTRAINT_SHARE: f64 = 0.5;

/// Relative shortfall at which an enforced spacing still counts as met.
const ENFORCED_ROUNDING: f64 = 1e-9;

/// Where the spacing counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In the fitness alone, as published.
    Hso,
    /// As constraints of the lower level, so that every schedule meets its own spacing.
    HsoConstrained,
}

/// Everything a search depends on.
pub struct Problem {
    pub noise: NoiseSchedule,
    /// Denoiser evaluations, one an interval (`t_min`) or one a point (`denoise`).
    pub nfe: usize,
    pub terminal: Terminal,
    pub objective: Box<dyn Objective>,
    pub method: Method,
    /// Weight of the spacing penalty.
    pub gamma: f64,
    /// Least gap in `t` asked for; without one the published line in NFE.
    pub d_min: Option<f64>,
    /// Box of psi, already clipped to the model's times.
    pub bounds: Bounds,
    /// Population members for every free gene of psi.
    pub population: usize,
    pub generations: usize,
    /// Spread of the population's fitness, against its mean, that ends the search.
    pub tolerance: f64,
    pub seed: u64,
}

/// The upper level's vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Psi {
    pub rho: f64,
    pub t_min: f64,
    pub t_max: f64,
}

/// How far a search is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub generation: usize,
    pub generations: usize,
    pub evaluations: usize,
    pub best_fitness: f64,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub schedule: Schedule,
    pub psi: Psi,
    /// Value of the objective at the schedule.
    pub objective: f64,
    /// Spacing penalty at the schedule.
    pub penalty: f64,
    /// The gap in `t` asked for.
    pub required: f64,
    /// The gap in `t` the lower level enforced, where it did.
    pub enforced: Option<f64>,
    pub stopped_by: Stop,
    pub evaluations: usize,
}

/// Why a search gave no schedule.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("the search was stopped before it finished")]
    Stopped,
    #[error("the search ended on an unusable schedule: {0}")]
    Unusable(#[from] ScheduleError),
}

/// Runs the search. `observe` sees every generation and may stop it.
pub fn search(
    problem: &Problem,
    mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome, SearchError> {
    if problem.terminal.points(problem.nfe) < 2 {
        return Ok(problem.single_point()?);
    }
    let settings = Settings {
        bounds: problem.bounds.as_genes(),
        population: problem.population,
        generations: problem.generations,
        tolerance: problem.tolerance,
        seed: problem.seed,
    };
    let fitness = |genes: &[f64; 3]| problem.refine(&Psi::from_genes(genes)).fitness();
    let evolved = differential_evolution::minimise(&settings, fitness, |generation| {
        observe(&progress(generation, problem.generations))
    });
    if evolved.stopped_by == Stop::Observer {
        return Err(SearchError::Stopped);
    }
    let psi = Psi::from_genes(&evolved.genes);
    let best = problem.refine(&psi);
    Ok(Outcome {
        schedule: Schedule::between(
            &problem.noise,
            (psi.t_max, psi.t_min),
            best.lambdas,
            problem.terminal,
        )?,
        psi,
        objective: best.objective,
        penalty: best.penalty,
        required: problem.measure(best.enforced),
        enforced: best.enforced,
        stopped_by: evolved.stopped_by,
        evaluations: evolved.evaluations,
    })
}

fn progress(generation: &Generation<3>, generations: usize) -> Progress {
    Progress {
        generation: generation.number,
        generations,
        evaluations: generation.evaluations,
        best_fitness: generation.best,
    }
}

impl Psi {
    fn from_genes(&[rho, t_min, t_max]: &[f64; 3]) -> Self {
        Self { rho, t_min, t_max }
    }
}

/// A psi's schedule with its cost.
struct Candidate {
    lambdas: Vec<f64>,
    objective: f64,
    penalty: f64,
    enforced: Option<f64>,
}

impl Candidate {
    fn fitness(&self) -> f64 {
        self.objective + self.penalty
    }
}

impl Problem {
    fn required_spacing(&self) -> f64 {
        self.d_min
            .unwrap_or_else(|| spacing::published_d_min(self.nfe))
    }

    /// The lower level: from psi's EDM spacing to the objective's minimum between the same ends.
    fn refine(&self, psi: &Psi) -> Candidate {
        let points = self.terminal.points(self.nfe);
        let start = edm_spacing(&self.noise, psi, points);
        match self.method {
            Method::Hso => self.refine_free(psi, start),
            Method::HsoConstrained => self.refine_constrained(psi, start),
        }
    }

    /// The published lower level. It sees no spacing, so its result stands, unless it is no minimum: an objective that
    /// merges points has none inside the range. The published reference then returns whatever crease its local solver
    /// stalled on, and the fitness picks among those stalls; the best of them that keeps the spacing is the constrained
    /// minimum, so that competes here with the collapsed schedule under the penalised fitness.
    fn refine_free(&self, psi: &Psi, start: Vec<f64>) -> Candidate {
        let mut lambdas = start.clone();
        let intervals = (lambdas.len() - 1) as f64;
        let least = ORDER_FLOOR * (lambdas[lambdas.len() - 1] - lambdas[0]) / intervals;
        let status = self.descend(Spacing::Lambda { least }, &mut lambdas);
        let free = self.candidate(lambdas, None);
        if status == Status::Interior || free.penalty == 0.0 {
            return free;
        }
        let spaced = self.refine_spaced(psi, start, self.required_spacing());
        if spaced.fitness() < free.fitness() {
            spaced
        } else {
            free
        }
    }

    fn refine_constrained(&self, psi: &Psi, start: Vec<f64>) -> Candidate {
        let uniform_gap = (psi.t_max - psi.t_min) / (start.len() - 1) as f64;
        let least = self.d_min.unwrap_or_else(|| {
            spacing::published_d_min(self.nfe).min(DEFAULT_CONSTRAINT_SHARE * uniform_gap)
        });
        self.refine_spaced(psi, start, least)
    }

    /// The objective's minimum among schedules whose gaps are at least `least`, or the widest there are: uniform `t`.
    fn refine_spaced(&self, psi: &Psi, start: Vec<f64>, least: f64) -> Candidate {
        let uniform_gap = (psi.t_max - psi.t_min) / (start.len() - 1) as f64;
        // Within this of uniform there is nothing left to choose.
        let crowded = least >= uniform_gap * (1.0 - 1e-6);
        let least = least.min(uniform_gap);
        let mut lambdas = widened(&self.noise, psi, start, least);
        if !crowded {
            let spacing = Spacing::Time {
                noise: &self.noise,
                least,
            };
            self.descend(spacing, &mut lambdas);
        }
        self.candidate(lambdas, Some(least))
    }

    fn descend(&self, spacing: Spacing<'_>, lambdas: &mut [f64]) -> Status {
        let objective = self.objective.as_ref();
        let mut work = Workspace::new(lambdas.len(), objective);
        trust_region::minimise(objective, spacing, LOWER_ITERATIONS, lambdas, &mut work)
    }

    fn candidate(&self, lambdas: Vec<f64>, enforced: Option<f64>) -> Candidate {
        let objective = self.objective.value(&lambdas);
        let penalty = if self.gamma == 0.0 {
            0.0
        } else {
            let mut earlier = self.noise.t(lambdas[0]);
            let gaps = lambdas[1..].iter().map(|&lambda| {
                let t = self.noise.t(lambda);
                std::mem::replace(&mut earlier, t) - t
            });
            // An enforced spacing that is met to rounding is met.
            let rounding = if enforced.is_some() {
                ENFORCED_ROUNDING
            } else {
                0.0
            };
            let d_min = self.measure(enforced) * (1.0 - rounding);
            spacing::penalty(self.gamma, d_min, gaps)
        };
        Candidate {
            lambdas,
            objective,
            penalty,
            enforced,
        }
    }

    /// The gap a schedule is measured by. Constraints without a spacing of the user's own are their own measure.
    fn measure(&self, enforced: Option<f64>) -> f64 {
        match (self.method, enforced) {
            (Method::HsoConstrained, Some(least)) => self.d_min.unwrap_or(least),
            _ => self.required_spacing(),
        }
    }

    /// One evaluation at one point has nothing to choose but its noise level: the noisiest allowed.
    fn single_point(&self) -> Result<Outcome, ScheduleError> {
        let [(rho, _), _, (_, t_max)] = self.bounds.as_genes();
        let lambdas = vec![self.noise.lambda(t_max)];
        Ok(Outcome {
            schedule: Schedule::from_lambdas(&self.noise, lambdas, self.terminal)?,
            psi: Psi {
                rho,
                t_min: t_max,
                t_max,
            },
            objective: 0.0,
            penalty: 0.0,
            required: self.required_spacing(),
            enforced: None,
            stopped_by: Stop::Tolerance,
            evaluations: 0,
        })
    }
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
