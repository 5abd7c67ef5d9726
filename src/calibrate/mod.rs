//! Calibration: the schedule whose few-step samples end closest to a fine solve's, searched with the model in the loop.
//!
//! ```text
//! teacher     a fine solve of the training noise, its steps doubled until the samples stay
//! screening   every start (HSO, rules, both terminals) once, on a quarter of the samples
//! refining    the best few starts by derivative-free Gauss-Newton on the per-sample error
//! validation  every start and every refined schedule on fresh noise, which decides
//! ```
//!
//! Refined schedules are chosen among by their training error alone; the chosen one is kept only if no start is better on the
//! validation noise. Called by `optimize`, which brings the starts; knows nothing of requests or documents.

mod error;
mod gauss_newton;
mod samples;
mod teacher;

pub use error::ErrorStats;

use crate::denoiser::{Batch, Denoiser, DenoiserError};
use crate::schedule::{NoiseSchedule, Schedule, ScheduleError};
use crate::solver::{Solver, Space, levels};
use gauss_newton::Range;
use samples::{Bench, SampleSet};
use std::sync::atomic::AtomicBool;
use teacher::Teacher;

/// Starts that are refined.
const REFINED: usize = 4;
/// Screening looks at one in this many samples.
const SCREENED: usize = 4;
/// Name of every refined schedule.
pub const REFINED_NAME: &str = "calibrated";
/// Gaps below this share of the mean one are none.
const MERGED: f64 = 1e-2;
/// Steps a teacher is expected to take in all, for the fraction done.
const EXPECTED_TEACHER: u64 = 96;

/// What a calibration may spend, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Training samples; four at least.
    pub samples: usize,
    /// Samples of the validation noise; two at least.
    pub validation_samples: usize,
    /// Rollouts of all training samples that screening and refining may take together.
    pub budget: usize,
    /// Class labels that go round the samples; none for unconditional samples.
    pub labels: Vec<u32>,
    pub seed: u64,
    /// Whether candidates are judged on whole training timesteps.
    pub snap: bool,
    /// Validation samples to keep for showing.
    pub shown: usize,
}

/// A schedule with the solver it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub name: String,
    pub solver: Solver,
    pub schedule: Schedule,
}

/// A candidate's error on the validation noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub candidate: Candidate,
    /// The start it was refined from.
    pub refined_from: Option<String>,
    pub error: ErrorStats,
}

/// The fine solve that errors are measured against.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherReport {
    pub solver: Solver,
    pub nfe: usize,
    /// Mean per-sample RMSE between this solve and one of half the steps.
    pub change: f64,
    /// Whether that is small against the samples themselves.
    pub converged: bool,
}

/// A calibration's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub teacher: TeacherReport,
    /// Every start in its order, then every refined schedule, best on the training noise first.
    pub judged: Vec<Judged>,
    /// The schedule that won, an index into `judged`.
    pub winner: usize,
    /// Rollouts of all training samples that were spent.
    pub rollouts: usize,
    /// Denoiser evaluations in all, one a sample.
    pub evaluations: u64,
    /// The validation samples to show: the teacher's, then every judged schedule's. Empty where none were asked for.
    pub shown: Vec<Batch>,
}

/// Parts of a calibration, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Teacher,
    Screening,
    Refining,
    Validation,
}

/// How far a calibration is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub phase: Phase,
    /// Denoiser evaluations so far, one a sample.
    pub evaluations: u64,
    /// Calls of the denoiser so far.
    pub batches: u64,
    /// Evaluations it will take in all, as far as is known.
    pub planned: u64,
    /// Lowest training error so far.
    pub best_error: Option<f64>,
}

/// Why a calibration gave no schedule.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    #[error("the calibration was stopped before it finished")]
    Stopped,
    #[error(transparent)]
    Denoiser(#[from] DenoiserError),
    #[error(
        "the denoiser answered with numbers that are not finite at timestep {timestep}; its weights or its noise schedule are unusable"
    )]
    NotFinite { timestep: f64 },
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// Runs a calibration from at least one start; all starts spend the same number of evaluations.
///
/// # Panics
/// Without a start.
pub fn calibrate(
    noise: &NoiseSchedule,
    denoiser: &dyn Denoiser,
    settings: &Settings,
    starts: Vec<Candidate>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Progress),
) -> Result<Outcome, CalibrateError> {
    let mut bench = Bench::new(noise, denoiser, stop, observe);
    let plan = Plan::new(noise, settings, &starts);
    let set = |seed, count| SampleSet::new(denoiser, &settings.labels, seed, count);
    let training = set(2 * settings.seed, settings.samples);
    let fresh = set(2 * settings.seed + 1, settings.validation_samples);
    bench.begin(
        Phase::Teacher,
        plan.teacher,
        plan.screening + plan.refining + plan.validation,
    );
    let teacher = Teacher::converge(&mut bench, starts[0].solver, &training)?;
    let truth = teacher.solve(&mut bench, &fresh)?;
    bench.begin(
        Phase::Screening,
        plan.screening,
        plan.refining + plan.validation,
    );
    let starts = starts
        .into_iter()
        .map(|start| start.snapped(noise, settings.snap))
        .collect::<Result<Vec<_>, _>>()?;
    // A quarter of a rollout each; a budget that ends there refines nothing, and needs no screening.
    let screening = starts.len().div_ceil(SCREENED);
    let (refined, spent) = if screening < settings.budget {
        let chosen = screened(&mut bench, &teacher, &training, &starts)?;
        bench.begin(Phase::Refining, plan.refining, plan.validation);
        refined(
            &mut bench, &teacher, &training, settings, &chosen, screening,
        )?
    } else {
        (Vec::new(), 0)
    };
    bench.begin(Phase::Validation, plan.validation, 0);
    let first_refined = starts.len();
    let all = starts.into_iter().map(|start| (start, None)).chain(refined);
    let (judged, ends) = validated(&mut bench, all, &fresh, &truth, settings.shown)?;
    let mut shown = Vec::new();
    if settings.shown > 0 {
        shown.push(truth.slice(0..settings.shown.min(fresh.len())));
        shown.extend(ends);
    }
    Ok(Outcome {
        winner: winner(&judged, first_refined),
        judged,
        teacher: teacher.report,
        rollouts: spent,
        evaluations: bench.evaluations(),
        shown,
    })
}

/// Every candidate's error on the fresh noise, and its samples to show.
fn validated(
    bench: &mut Bench,
    candidates: impl Iterator<Item = Refined>,
    fresh: &SampleSet,
    truth: &Batch,
    shown: usize,
) -> Result<(Vec<Judged>, Vec<Batch>), CalibrateError> {
    let (mut judged, mut ends) = (Vec::new(), Vec::new());
    for (candidate, refined_from) in candidates {
        let samples = bench.run(candidate.solver, &candidate.schedule, fresh)?;
        judged.push(Judged {
            error: ErrorStats::between(&samples, truth),
            candidate,
            refined_from,
        });
        if shown > 0 {
            ends.push(samples.slice(0..shown.min(samples.samples())));
        }
    }
    Ok((judged, ends))
}

/// The schedule refined best on the training noise, unless a start is better on the validation noise; the error of a start that wins
/// has then chosen it too.
fn winner(judged: &[Judged], first_refined: usize) -> usize {
    let best_start = (0..first_refined)
        .min_by(|&a, &b| judged[a].error.mean.total_cmp(&judged[b].error.mean))
        .expect("a calibration has a start");
    match judged.get(first_refined) {
        Some(refined) if refined.error.mean <= judged[best_start].error.mean => first_refined,
        _ => best_start,
    }
}

/// Evaluations every phase will take.
struct Plan {
    teacher: u64,
    screening: u64,
    refining: u64,
    validation: u64,
}

impl Plan {
    fn new(noise: &NoiseSchedule, settings: &Settings, starts: &[Candidate]) -> Self {
        let (samples, fresh) = (settings.samples as u64, settings.validation_samples as u64);
        let nfe = starts[0]
            .solver
            .evaluations(&levels(noise, &starts[0].schedule)) as u64;
        let count = starts.len() as u64;
        Self {
            teacher: EXPECTED_TEACHER * samples + EXPECTED_TEACHER * 2 / 3 * fresh,
            screening: count * samples.div_ceil(SCREENED as u64) * nfe,
            refining: (settings.budget as u64).saturating_sub(count.div_ceil(SCREENED as u64))
                * samples
                * nfe,
            validation: (count + REFINED as u64) * fresh * nfe,
        }
    }
}

/// The starts worth refining, best first: the best of every solver and terminal, then the next best.
fn screened<'a>(
    bench: &mut Bench,
    teacher: &Teacher,
    training: &SampleSet,
    starts: &'a [Candidate],
) -> Result<Vec<&'a Candidate>, CalibrateError> {
    let few = 0..training.len().div_ceil(SCREENED);
    let (set, targets) = (training.slice(few.clone()), teacher.targets.slice(few));
    let mut scored = Vec::with_capacity(starts.len());
    for start in starts {
        let samples = bench.run(start.solver, &start.schedule, &set)?;
        let error = ErrorStats::between(&samples, &targets).mean;
        // Points that (nearly) meet give no differences to go by.
        if is_refinable(&start.schedule) {
            scored.push((error, start));
        }
    }
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let kind = |start: &Candidate| (start.solver, start.schedule.terminal());
    let is_first = |i: usize| {
        let own = kind(scored[i].1);
        !scored[..i].iter().any(|(_, better)| kind(better) == own)
    };
    let (firsts, rest): (Vec<usize>, Vec<usize>) = (0..scored.len()).partition(|&i| is_first(i));
    Ok(firsts
        .into_iter()
        .chain(rest)
        .take(REFINED)
        .map(|i| scored[i].1)
        .collect())
}

/// Whether every gap in log-SNR is worth the name.
fn is_refinable(schedule: &Schedule) -> bool {
    let lambdas = schedule.lambdas();
    let range = lambdas[lambdas.len() - 1] - lambdas[0];
    let least = MERGED * range / lambdas.len() as f64;
    lambdas.windows(2).all(|pair| pair[1] - pair[0] > least)
}

/// A candidate, and the name of the start it was refined from.
type Refined = (Candidate, Option<String>);

/// Refines every chosen start with an equal share of what is left of the budget; best on the training noise first. Also tells
/// the rollouts spent, screening included.
fn refined(
    bench: &mut Bench,
    teacher: &Teacher,
    training: &SampleSet,
    settings: &Settings,
    chosen: &[&Candidate],
    screening: usize,
) -> Result<(Vec<Refined>, usize), CalibrateError> {
    let (t_min, t_max) = bench.noise.t_range();
    let range = Range {
        low: bench.noise.lambda(t_max),
        high: bench.noise.lambda(t_min),
    };
    let mut spent = screening;
    let mut found = Vec::with_capacity(chosen.len());
    for (i, start) in chosen.iter().enumerate() {
        let share = settings.budget.saturating_sub(spent) / (chosen.len() - i);
        if share <= usize::from(settings.snap) {
            continue;
        }
        let (noise, terminal) = (bench.noise, start.schedule.terminal());
        let mut residuals = |lambdas: &[f64]| -> Result<Batch, CalibrateError> {
            let schedule = Schedule::from_lambdas(noise, lambdas.to_vec(), terminal)?;
            let samples = bench.run(start.solver, &schedule, training)?;
            bench.found(ErrorStats::between(&samples, &teacher.targets).mean);
            Ok(Batch::combine(&[(1.0, &samples), (-1.0, &teacher.targets)]))
        };
        let clamped = start.schedule.lambdas().iter();
        let lambdas = clamped.map(|l| l.clamp(range.low, range.high)).collect();
        let searches = share - usize::from(settings.snap);
        let minimum = gauss_newton::minimise(range, lambdas, searches, &mut residuals)?;
        spent += minimum.evaluations;
        let candidate = Candidate {
            name: REFINED_NAME.to_owned(),
            solver: start.solver,
            schedule: Schedule::from_lambdas(noise, minimum.variables, terminal)?,
        };
        let candidate = candidate.snapped(noise, settings.snap)?;
        let mut error = minimum.value;
        if settings.snap {
            let samples = bench.run(candidate.solver, &candidate.schedule, training)?;
            error = ErrorStats::between(&samples, &teacher.targets).mean;
            spent += 1;
        }
        found.push((error, (candidate, Some(start.name.clone()))));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok((
        found.into_iter().map(|(_, refined)| refined).collect(),
        spent,
    ))
}

impl Candidate {
    fn snapped(mut self, noise: &NoiseSchedule, snap: bool) -> Result<Self, ScheduleError> {
        if snap {
            self.schedule = self.schedule.snapped(noise)?;
        }
        Ok(self)
    }
}
