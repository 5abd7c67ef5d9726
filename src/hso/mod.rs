//! Hierarchical Schedule Optimization (arXiv 2511.11688): a bi-level search for the points of a schedule.
//!
//! The upper level ([`differential_evolution`]) searches `psi = (rho, t_min, t_max)`. Every psi gives an EDM-spaced start
//! between the two times, which the lower level ([`lower_level`], by [`trust_region`]) refines on the objective; the fitness that the upper
//! level sees is that objective plus the spacing penalty. [`Method::Hso`] is the published method: spacing counts in the
//! fitness alone. [`Method::HsoConstrained`] puts it into the lower level. Pure and deterministic; called by the
//! optimisation engine, never by a network handler directly.

mod bounds;
pub mod differential_evolution;
mod lower_level;
mod polish;
mod random;
pub mod trust_region;

pub use bounds::{Bounds, BoundsError, MIN_RANGE};
pub use differential_evolution::Stop;

use crate::objective::{Objective, spacing};
use crate::schedule::{NoiseSchedule, Schedule, ScheduleError, Terminal};
use differential_evolution::{Generation, Settings};
use lower_level::LowerLevel;
use std::sync::atomic::AtomicBool;

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
    /// Denoiser evaluations: what the published spacing depends on.
    pub nfe: usize,
    /// Points of the schedule.
    pub points: usize,
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

/// Runs the search. `observe` sees every generation; setting `stop` ends the search within the evaluations under way.
pub fn search(
    problem: &Problem,
    stop: &AtomicBool,
    mut observe: impl FnMut(&Progress),
) -> Result<Outcome, SearchError> {
    if problem.points < 2 {
        return Ok(problem.single_point()?);
    }
    let settings = Settings {
        bounds: problem.bounds.as_genes(),
        population: problem.population,
        generations: problem.generations,
        tolerance: problem.tolerance,
        seed: problem.seed,
    };
    let lower = LowerLevel::new(problem);
    let fitness = |genes: &[f64; 3]| lower.refine(&Psi::from_genes(genes)).fitness();
    let evolved = differential_evolution::minimise(&settings, fitness, stop, |generation| {
        observe(&progress(generation, problem.generations));
    });
    if evolved.stopped_by == Stop::Asked {
        return Err(SearchError::Stopped);
    }
    let psi = Psi::from_genes(&evolved.genes);
    let best = lower.refine(&psi);
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
        required: lower.measure(best.enforced),
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

impl Problem {
    fn required_spacing(&self) -> f64 {
        self.d_min
            .unwrap_or_else(|| spacing::published_d_min(self.nfe))
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
