//! The answer with the model in the loop: what a calibration starts from, and what it found.

use super::answer::Answer;
use super::{OptimizeError, search, warnings};
use crate::api::{
    Calibration, CalibrationReport, Effective, JobProgress, MeasuredCandidate, MeasuredError, Plan,
    SearchSettings, SolverName, Teacher,
};
use crate::calibrate::{self, Candidate, ErrorStats, Judged, Outcome, Phase, Progress, Settings};
use crate::denoiser::{Guided, Models};
use crate::hso::Method;
use crate::schedule::rules::RULES;
use crate::schedule::{NoiseSchedule, Schedule, Terminal};
use std::sync::atomic::AtomicBool;

/// One rule of each kind: where `auto` starts its solvers, and schedules that end at `t_min`, where rules have no end of their own.
const KINDS_OF_RULES: &[&str] = &[
    "karras",
    "exponential",
    "time_quadratic",
    "uniform_t_trailing",
];

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
    let denoiser = models.open(&effective.model, &calibration.weights)?;
    let denoiser = Guided::new(denoiser, calibration.guidance_scale);
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
        labels: calibration.class_labels.clone(),
        seed: search.seed,
        snap: effective.snap,
    };
    let outcome = calibrate::calibrate(
        &noise,
        &denoiser,
        &settings,
        starts,
        stop,
        &mut |progress| {
            observe(&JobProgress::from(progress));
        },
    )?;
    let winner = outcome.judged[outcome.winner].clone();
    Ok(Answer {
        p: search.p,
        solver: winner.candidate.solver.into(),
        seed: Some(search.seed),
        evaluations: outcome.evaluations,
        error: Some(winner.error.into()),
        warnings: warnings::of_calibration(&outcome, &noise),
        calibration: Some(report(outcome, &noise)),
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

fn report(outcome: Outcome, noise: &NoiseSchedule) -> CalibrationReport {
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

impl From<&Progress> for JobProgress {
    fn from(progress: &Progress) -> Self {
        let phase = match progress.phase {
            Phase::Teacher => "teacher",
            Phase::Screening => "screening",
            Phase::Refining => "refining",
            Phase::Validation => "validation",
        };
        Self {
            phase: phase.to_owned(),
            fraction: (progress.evaluations as f64 / progress.planned.max(1) as f64).min(1.0),
            best_fitness: None,
            best_error: progress.best_error,
            evaluations: progress.evaluations,
        }
    }
}
