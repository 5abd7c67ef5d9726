//! From an effective request to its answer: runs the search, scores the rules beside it and says what was active.
//!
//! The one engine behind the service's jobs and the command line, so that both give the same bytes. Blocking CPU work on
//! the caller's thread (and the rayon pool it runs in); `observe` sees progress, setting `stop` ends it.

pub mod compare;
mod warnings;

use crate::api::{
    Baseline, Digest, Effective, EffectiveSolver, Fitness, ObjectiveName, Plan, Provenance,
    PsiReport, ScheduleDocument, SearchReport, SearchSettings, SolverName, SpacingReport, Warning,
};
use crate::hso::{self, Method, Outcome, Problem, Progress, SearchError, Stop};
use crate::objective::Objective;
use crate::objective::mep::Mep;
use crate::objective::spacing::penalty;
use crate::objective::unipc_bound::UniPcBound;
use crate::objective::unipc_midpoint::UniPcMidpoint;
use crate::schedule::families::{self, Published};
use crate::schedule::rules::RULES;
use crate::schedule::{NoiseError, NoiseSchedule, Schedule, ScheduleError, Terminal};
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use warnings::Searched;

/// Exponent of the proxy that scores published schedules, where no request sets one.
const DEFAULT_P: f64 = 2.0;
/// Gaps this share below the required one still meet it: a penalty, however steep, gives way a little.
const SPACING_ROUNDING: f64 = 1e-6;

/// Why an effective request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OptimizeError {
    #[error("stopped before it finished")]
    Stopped,
    #[error("cannot be answered: {0}")]
    Schedule(#[from] ScheduleError),
    #[error("cannot be answered: {0}")]
    Noise(#[from] NoiseError),
    #[error(
        "the search ended on an unusable schedule: {0}; this is a defect, please report it with the request"
    )]
    Search(SearchError),
}

impl From<SearchError> for OptimizeError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Stopped => Self::Stopped,
            SearchError::Unusable(_) => Self::Search(error),
        }
    }
}

/// Answers a request.
pub fn optimize(
    effective: &Effective,
    stop: &AtomicBool,
    observe: impl FnMut(&Progress),
) -> Result<ScheduleDocument, OptimizeError> {
    let started = Instant::now();
    let noise = NoiseSchedule::new(&effective.noise.spec())?;
    let answer = match &effective.plan {
        Plan::Hso(settings) => searched(effective, settings, Method::Hso, noise, stop, observe)?,
        Plan::HsoConstrained(settings) => searched(
            effective,
            settings,
            Method::HsoConstrained,
            noise,
            stop,
            observe,
        )?,
        Plan::Published { .. } => published(effective, noise)?,
    };
    Ok(answer.into_document(effective, started))
}

/// A schedule with what is known about it, before it is written down.
struct Answer {
    noise: NoiseSchedule,
    schedule: Schedule,
    p: f64,
    objective: Option<(ObjectiveName, f64)>,
    penalty: f64,
    spacing: SpacingReport,
    search: Option<SearchReport>,
    psi: Option<PsiReport>,
    seed: Option<u64>,
    evaluations: usize,
    warnings: Vec<Warning>,
}

fn searched(
    effective: &Effective,
    settings: &SearchSettings,
    method: Method,
    noise: NoiseSchedule,
    stop: &AtomicBool,
    observe: impl FnMut(&Progress),
) -> Result<Answer, OptimizeError> {
    let problem = Problem {
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
    };
    let outcome = hso::search(&problem, stop, observe)?;
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
        evaluations: outcome.evaluations,
        warnings,
        noise: problem.noise,
        schedule,
    })
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

/// The schedule a distilled model was trained for, stretched where another NFE was allowed.
fn published(effective: &Effective, noise: NoiseSchedule) -> Result<Answer, OptimizeError> {
    let family = families::find(&effective.model);
    let carried: &Published = family
        .and_then(|family| family.published.as_ref())
        .expect("only distilled families resolve to a published plan");
    let nfe = usize::from(effective.nfe.get());
    let (lambdas, exact) = match carried.lambdas(nfe, &noise) {
        Some(lambdas) => (lambdas, true),
        None => (carried.resampled(nfe, &noise), false),
    };
    let mut schedule = Schedule::from_lambdas(&noise, lambdas, Terminal::Denoise)?;
    if effective.snap {
        schedule = schedule.snapped(&noise)?;
    }
    Ok(Answer {
        p: DEFAULT_P,
        objective: None,
        penalty: 0.0,
        spacing: SpacingReport {
            required: None,
            smallest: schedule.gaps().reduce(f64::min),
            met: true,
            enforced: false,
        },
        search: None,
        psi: None,
        seed: None,
        evaluations: 0,
        warnings: vec![warnings::of_published(carried, exact)],
        noise,
        schedule,
    })
}

impl Answer {
    fn into_document(self, effective: &Effective, started: Instant) -> ScheduleDocument {
        let lambdas = self.schedule.lambdas();
        let mep = proxy(&self.noise, self.p, lambdas);
        let clean = self.schedule.terminal() == Terminal::Denoise;
        let with_end = |values: Vec<f64>, end: Option<f64>| -> Vec<Option<f64>> {
            let clean_end = clean.then_some(end);
            values.into_iter().map(Some).chain(clean_end).collect()
        };
        let mut sigmas: Vec<f64> = lambdas.iter().map(|&l| self.noise.sigma(l)).collect();
        let mut alphas: Vec<f64> = lambdas.iter().map(|&l| self.noise.alpha(l)).collect();
        if clean {
            sigmas.push(0.0);
            alphas.push(1.0);
        }
        let value = self.objective.map_or(mep, |(_, value)| value);
        let document = ScheduleDocument {
            id: Digest::of(&()),
            model: effective.model.clone(),
            solver: effective.solver,
            nfe: effective.nfe,
            terminal: effective.terminal,
            t: with_end(self.schedule.t().to_vec(), None),
            timesteps: self.schedule.timesteps(&self.noise),
            sigmas,
            lambdas: with_end(lambdas.to_vec(), None),
            alphas,
            method: effective.method(),
            objective: self.objective.map(|(name, _)| name),
            fitness: Fitness {
                mep,
                objective: value,
                penalty: self.penalty,
                total: value + self.penalty,
            },
            search: self.search,
            spacing: self.spacing,
            psi: self.psi,
            baselines: baselines(&self.noise, &self.schedule, self.p),
            warnings: self.warnings,
            provenance: Provenance {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                seed: self.seed,
                evaluations: self.evaluations as u64,
                elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
                device: "cpu".to_owned(),
                created_at: jiff::Timestamp::now().to_string(),
            },
        };
        document.sealed()
    }
}

/// Every rule that applies, scored by the midpoint proxy over its own points and between the schedule's ends.
fn baselines(noise: &NoiseSchedule, schedule: &Schedule, p: f64) -> Vec<Baseline> {
    let points = schedule.t().len();
    let most = noise.t_range().1;
    let ends = (schedule.t()[0].min(most), schedule.t()[points - 1]);
    let evaluations = schedule.timesteps(noise).len();
    RULES
        .iter()
        .filter_map(|rule| {
            let native = rule.native(noise, evaluations);
            let matched = if points < 2 {
                None
            } else {
                rule.matched(noise, points, ends.0, ends.1)
            };
            (native.is_some() || matched.is_some()).then(|| Baseline {
                name: rule.name.to_owned(),
                mep_native: native.map(|lambdas| proxy(noise, p, &lambdas)),
                mep_matched: matched.map(|lambdas| proxy(noise, p, &lambdas)),
            })
        })
        .collect()
}

/// The midpoint proxy of a list of points; a single point has no interval and costs nothing. Pure noise, where log-SNR is
/// infinite, counts from the end of the model's times.
fn proxy(noise: &NoiseSchedule, p: f64, lambdas: &[f64]) -> f64 {
    if lambdas.len() < 2 {
        return 0.0;
    }
    let least = noise.lambda(noise.t_range().1);
    if lambdas[0] >= least {
        return Mep::new(p).value(lambdas);
    }
    let mut finite = lambdas.to_vec();
    finite[0] = least;
    Mep::new(p).value(&finite)
}
