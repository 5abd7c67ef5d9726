//! The answer with the model in the loop: what a calibration starts from, and what it found.

use super::answer::Answer;
use super::{OptimizeError, pictures, search, warnings};
use crate::api::{
    Calibration, CalibrationReport, Effective, JobProgress, MeasuredCandidate, MeasuredError,
    PictureRow, Plan, SearchSettings, SolverName, Teacher,
};
use crate::calibrate::{self, Candidate, ErrorStats, Judged, Outcome, Phase, Progress, Settings};
use crate::denoiser::{Demand, Models, Prompts};
use crate::hso::Method;
use crate::schedule::rules::RULES;
use crate::schedule::{NoiseSchedule, Schedule, Terminal};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// One rule of each kind: where `auto` starts its solvers, and schedules that end at `t_min`, where rules have no end of their own.
const KINDS_OF_RULES: &[&str] = &[
    "karras",
    "exponential",
    "time_quadratic",
    "uniform_t_trailing",
];

/// Share done from which the time left can be told.
const LEAST_FORESIGHT: f64 = 0.02;

/// Measures every start and the `given` schedules (half log-SNRs that end clean), and refines the best.
pub(super) fn answer(
    effective: &Effective,
    calibration: &Calibration,
    models: &Models,
    given: &[(String, Vec<f64>)],
    noise: NoiseSchedule,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&JobProgress),
) -> Result<Answer, OptimizeError> {
    let (Plan::Hso(search) | Plan::HsoConstrained(search)) = &effective.plan else {
        unreachable!("requests for published schedules resolve to no calibration");
    };
    observe(&loading());
    let denoiser = models.open(&demand(effective, calibration), stop)?;
    let began = Instant::now();
    let schedules = starts(effective, calibration, search, given, &noise, stop)?;
    let starts = effective
        .solver
        .solvers()
        .into_iter()
        .flat_map(|solver| {
            schedules.iter().map(move |(name, schedule)| Candidate {
                name: name.clone(),
                solver,
                schedule: schedule.clone(),
            })
        })
        .collect();
    let settings = Settings {
        samples: calibration.samples as usize,
        validation_samples: calibration.validation_samples as usize,
        budget: calibration.budget as usize,
        labels: labels(calibration),
        seed: search.seed,
        snap: effective.snap,
        shown: calibration.pictures as usize,
    };
    let outcome = calibrate::calibrate(
        &noise,
        &*denoiser,
        &settings,
        starts,
        stop,
        &mut |progress| {
            observe(&job_progress(progress, began.elapsed()));
        },
    )?;
    let pictures = pictures::rows(&outcome, &*denoiser)?;
    let winner = outcome.judged[outcome.winner].clone();
    Ok(Answer {
        p: search.p,
        solver: winner.candidate.solver.into(),
        seed: Some(search.seed),
        evaluations: outcome.evaluations,
        error: Some(winner.error.into()),
        warnings: warnings::of_calibration(&outcome, &noise),
        calibration: Some(report(outcome, pictures, &noise)),
        device: models.device().to_string(),
        ..Answer::plain(effective, noise, winner.candidate.schedule)
    })
}

/// HSO's schedules for every terminal, every rule as its own tool runs it, and what the user gave.
fn starts(
    effective: &Effective,
    calibration: &Calibration,
    search: &SearchSettings,
    given: &[(String, Vec<f64>)],
    noise: &NoiseSchedule,
    stop: &AtomicBool,
) -> Result<Vec<(String, Schedule)>, OptimizeError> {
    let mut starts = Vec::new();
    for &terminal in &calibration.terminals {
        let plain = Effective {
            terminal,
            snap: false,
            calibrate: None,
            ..effective.clone()
        };
        let spaced = SearchSettings {
            d_min: match effective.plan {
                Plan::HsoConstrained(_) => search.d_min,
                _ => None,
            },
            ..search.clone()
        };
        let searched = |settings, method| {
            search::answer(&plain, settings, method, noise.clone(), stop, &mut |_| {})
        };
        let hso = searched(search, Method::Hso)?;
        let constrained = searched(&spaced, Method::HsoConstrained)?;
        starts.push(("hso".to_owned(), hso.schedule.clone()));
        starts.push(("hso-constrained".to_owned(), constrained.schedule));
        let few = effective.solver.name == SolverName::Auto || terminal == Terminal::TMin;
        for rule in RULES {
            if few && !KINDS_OF_RULES.contains(&rule.name) {
                continue;
            }
            let lambdas = match terminal {
                Terminal::Denoise => rule.native(noise, plain.points()),
                Terminal::TMin => {
                    let last = hso.schedule.t()[plain.points() - 1];
                    rule.matched(noise, plain.points(), noise.t_range().1, last)
                }
            };
            if let Some(lambdas) = lambdas {
                let schedule = Schedule::from_lambdas(noise, lambdas, terminal)?;
                starts.push((rule.name.to_owned(), schedule));
            }
        }
    }
    for (name, lambdas) in given {
        let schedule = Schedule::from_lambdas(noise, lambdas.clone(), Terminal::Denoise)?;
        starts.push((name.clone(), schedule));
    }
    Ok(starts)
}

fn report(outcome: Outcome, pictures: Vec<PictureRow>, noise: &NoiseSchedule) -> CalibrationReport {
    let winner = outcome.judged[outcome.winner].candidate.name.clone();
    let mut candidates: Vec<MeasuredCandidate> = outcome
        .judged
        .into_iter()
        .enumerate()
        .map(|(i, judged)| measured(judged, i == outcome.winner, noise))
        .collect();
    candidates.sort_by(|a, b| a.error.value.total_cmp(&b.error.value));
    CalibrationReport {
        teacher: Teacher {
            solver: outcome.teacher.solver.into(),
            nfe: outcome.teacher.nfe as u64,
            change: outcome.teacher.change,
            converged: outcome.teacher.converged,
        },
        winner,
        rollouts: outcome.rollouts as u64,
        candidates,
        pictures,
    }
}

fn measured(judged: Judged, answer: bool, noise: &NoiseSchedule) -> MeasuredCandidate {
    let Candidate {
        name,
        solver,
        schedule,
    } = judged.candidate;
    MeasuredCandidate {
        name,
        answer,
        solver: solver.into(),
        terminal: schedule.terminal(),
        refined_from: judged.refined_from,
        sigmas: schedule.lambdas().iter().map(|&l| noise.sigma(l)).collect(),
        error: judged.error.into(),
    }
}

impl From<ErrorStats> for MeasuredError {
    fn from(error: ErrorStats) -> Self {
        Self {
            value: error.mean,
            median: error.median,
            stderr: error.stderr,
            samples: error.samples as u64,
        }
    }
}

/// What a calibration asks of its model.
fn demand<'a>(effective: &'a Effective, calibration: &'a Calibration) -> Demand<'a> {
    let prompts = (!calibration.prompts.is_empty()).then(|| Prompts {
        positive: calibration.prompts.clone(),
        negative: calibration.negative_prompt.clone(),
    });
    Demand {
        name: &effective.model,
        weights: &calibration.weights,
        guidance_scale: calibration.guidance_scale,
        prompts,
    }
}

/// Labels that go round the samples: classes, or the prompts by their places.
fn labels(calibration: &Calibration) -> Vec<u32> {
    if calibration.prompts.is_empty() {
        calibration.class_labels.clone()
    } else {
        (0..calibration.prompts.len() as u32).collect()
    }
}

/// Told while a model is waited for and loaded.
fn loading() -> JobProgress {
    JobProgress {
        phase: "loading".to_owned(),
        fraction: 0.0,
        best_fitness: None,
        best_error: None,
        evaluations: 0,
        batches: Some(0),
        seconds_left: None,
    }
}

fn job_progress(progress: &Progress, elapsed: Duration) -> JobProgress {
    let phase = match progress.phase {
        Phase::Teacher => "teacher",
        Phase::Screening => "screening",
        Phase::Refining => "refining",
        Phase::Validation => "validation",
    };
    let fraction = (progress.evaluations as f64 / progress.planned.max(1) as f64).min(1.0);
    let seconds_left = elapsed.as_secs_f64() * (1.0 - fraction) / fraction;
    JobProgress {
        phase: phase.to_owned(),
        fraction,
        best_fitness: None,
        best_error: progress.best_error,
        evaluations: progress.evaluations,
        batches: Some(progress.batches),
        seconds_left: (fraction > LEAST_FORESIGHT).then_some(seconds_left),
    }
}
