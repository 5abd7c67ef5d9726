//! The answer of a bi-level search: the schedule with how it was found and how it keeps its spacing.

use super::answer::Answer;
use super::warnings::{self, Searched};
use super::{OptimizeError, SPACING_ROUNDING};
use crate::api::{
    Effective, EffectiveSolver, JobProgress, ObjectiveName, PsiReport, SearchReport,
    SearchSettings, SolverName, SpacingReport,
};
use crate::hso::{self, Method, Outcome, Problem, Progress, Stop};
use crate::objective::Objective;
use crate::objective::mep::Mep;
use crate::objective::spacing::penalty;
use crate::objective::unipc_bound::UniPcBound;
use crate::objective::unipc_midpoint::UniPcMidpoint;
use crate::schedule::{NoiseSchedule, Schedule};
use std::sync::atomic::AtomicBool;

/// Searches as the settings say, with the spacing where `method` has it.
pub(super) fn answer(
    effective: &Effective,
    settings: &SearchSettings,
    method: Method,
    noise: NoiseSchedule,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&JobProgress),
) -> Result<Answer, OptimizeError> {
    let problem = problem(effective, settings, method, noise);
    let outcome = hso::search(&problem, stop, |progress| {
        observe(&JobProgress::from(progress));
    })?;
    let schedule = if effective.snap {
        outcome.schedule.snapped(&problem.noise)?
    } else {
        outcome.schedule.clone()
    };
    let spacing = spacing_report(&schedule, &outcome);
    let value = match schedule.lambdas() {
        [_] => 0.0,
        lambdas => problem.objective.value(lambdas),
    };
    let cost = if effective.snap {
        penalty(settings.gamma, outcome.required, schedule.gaps())
    } else {
        outcome.penalty
    };
    let psi = psi_report(&outcome, settings);
    let warnings = warnings::of_search(&Searched {
        effective,
        settings,
        outcome: &outcome,
        schedule: &schedule,
        psi: &psi,
        noise: &problem.noise,
    });
    Ok(Answer {
        p: settings.p,
        objective: Some((settings.objective, value)),
        penalty: cost,
        spacing,
        search: Some(SearchReport {
            converged: outcome.stopped_by == Stop::Tolerance,
            stopped_by: match outcome.stopped_by {
                Stop::Tolerance => "tolerance".to_owned(),
                Stop::Generations | Stop::Asked => "generations".to_owned(),
            },
        }),
        psi: Some(psi),
        seed: Some(settings.seed),
        evaluations: outcome.evaluations as u64,
        warnings,
        ..Answer::plain(effective, problem.noise, schedule)
    })
}

fn problem(
    effective: &Effective,
    settings: &SearchSettings,
    method: Method,
    noise: NoiseSchedule,
) -> Problem {
    Problem {
        noise,
        nfe: usize::from(effective.nfe.get()),
        points: effective.points(),
        terminal: effective.terminal,
        objective: objective(settings.objective, settings.p, effective.solver),
        method,
        gamma: settings.gamma,
        d_min: settings.d_min,
        bounds: settings.bounds(),
        population: settings.population as usize,
        generations: settings.generations as usize,
        tolerance: settings.tolerance,
        seed: settings.seed,
    }
}

impl From<&Progress> for JobProgress {
    fn from(progress: &Progress) -> Self {
        Self {
            phase: "search".to_owned(),
            fraction: progress.generation as f64 / progress.generations.max(1) as f64,
            best_fitness: Some(progress.best_fitness).filter(|best| best.is_finite()),
            best_error: None,
            evaluations: progress.evaluations as u64,
            batches: None,
            seconds_left: None,
        }
    }
}

/// The objective by name; the solver's order sets the weights of the multistep bounds.
fn objective(name: ObjectiveName, p: f64, solver: EffectiveSolver) -> Box<dyn Objective> {
    let order = match solver.name {
        SolverName::Ddim | SolverName::EulerAncestral => 1,
        SolverName::Dpmpp2m | SolverName::SdeDpmpp2m | SolverName::Heun => 2,
        SolverName::Unipc | SolverName::Dpmpp3m | SolverName::Auto => {
            usize::from(solver.order.unwrap_or(3))
        }
        // The bounds are built from at most three nodes.
        SolverName::Deis | SolverName::Ipndm => usize::from(solver.order.unwrap_or(3)).min(3),
    };
    match name {
        ObjectiveName::Mep => Box::new(Mep::new(p)),
        ObjectiveName::UnipcBound => Box::new(UniPcBound::new(p, order)),
        ObjectiveName::UnipcMidpoint => Box::new(UniPcMidpoint::new(p, order)),
    }
}

fn spacing_report(schedule: &Schedule, outcome: &Outcome) -> SpacingReport {
    let smallest = schedule.gaps().reduce(f64::min);
    SpacingReport {
        required: Some(outcome.required),
        smallest,
        met: smallest.is_none_or(|gap| gap >= outcome.required * (1.0 - SPACING_ROUNDING)),
        enforced: outcome.enforced.is_some(),
    }
}

fn psi_report(outcome: &Outcome, settings: &SearchSettings) -> PsiReport {
    let psi = outcome.psi;
    let genes = [
        ("rho", psi.rho, settings.rho),
        ("t_min", psi.t_min, settings.t_min),
        ("t_max", psi.t_max, settings.t_max),
    ];
    let at_bound = genes
        .into_iter()
        .filter(|(_, _, [low, high])| low < high)
        .flat_map(|(name, value, [low, high])| {
            [(low, "low"), (high, "high")]
                .into_iter()
                .filter(move |(end, _)| value == *end)
                .map(move |(_, side)| format!("{name}:{side}"))
        })
        .collect();
    PsiReport {
        rho: psi.rho,
        t_min: psi.t_min,
        t_max: psi.t_max,
        at_bound,
    }
}
