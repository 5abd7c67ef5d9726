//! Calibrations on the exact mixtures: what wins on noise the search never saw, and what a calibration keeps to.

use crate::support::{answer, effective};
use fewstep::api::{MeasuredCandidate, MethodName, ScheduleDocument};
use fewstep::calibrate::{self, CalibrateError, Candidate, Phase, Settings};
use fewstep::denoiser::{
    Batch, Capacity, Conditioning, Denoiser, DenoiserError, LoadError, Mixture, Models,
};
use fewstep::optimize::{OptimizeError, optimize};
use fewstep::schedule::{NoiseSchedule, NoiseSpec, Schedule, Terminal, VpTable};
use fewstep::solver::{Level, Solver};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn request(solver: &Value, nfe: u32, calibrate: &Value) -> Value {
    json!({"model": "mixture-64d", "solver": solver, "nfe": nfe, "calibrate": calibrate})
}

fn candidates(document: &ScheduleDocument) -> &[MeasuredCandidate] {
    &document.calibration.as_ref().unwrap().candidates
}

fn published(document: &ScheduleDocument) -> &MeasuredCandidate {
    candidates(document)
        .iter()
        .find(|c| c.name == "hso" && c.terminal == Terminal::TMin)
        .unwrap()
}

/// Many samples, so that neither the search nor the verdict is left to chance.
const THOROUGH: &str = r#"{"samples": 256, "validation_samples": 1024}"#;

#[test]
fn calibrated_schedules_beat_the_published_ones_and_every_rule_on_unseen_noise() {
    let thorough = serde_json::from_str(THOROUGH).unwrap();
    for (solver, share) in [("unipc", 0.7), ("dpmpp_2m", 0.85)] {
        for nfe in [4, 5, 6, 8] {
            let document = answer(&request(&json!(solver), nfe, &thorough));
            let error = document.error.unwrap();
            let hso = published(&document).error.value;
            assert!(
                error.value <= share * hso,
                "{solver} {nfe}: {} against {hso}",
                error.value
            );
            assert_eq!(document.method, MethodName::Calibrated);
            assert_eq!(error.samples, 1024);
            for other in candidates(&document) {
                let is_rule = other.refined_from.is_none();
                assert!(
                    !is_rule || error.value < other.error.value,
                    "{solver} {nfe}: {} is as good",
                    other.name
                );
            }
        }
    }
}

#[test]
fn five_calibrated_evaluations_are_worth_six_by_any_rule() {
    let thorough = serde_json::from_str(THOROUGH).unwrap();
    let five = answer(&request(&json!("unipc"), 5, &thorough));
    let measured_only = json!({"samples": 16, "validation_samples": 1024, "budget": 0});
    let six = answer(&request(&json!("unipc"), 6, &measured_only));
    let best = candidates(&six)
        .iter()
        .filter(|c| !c.name.starts_with("hso"))
        .map(|c| c.error.value)
        .fold(f64::INFINITY, f64::min);
    assert!(five.error.unwrap().value <= best);
}

#[test]
fn a_budget_of_zero_measures_and_refines_nothing() {
    let document = answer(&request(
        &json!("unipc"),
        5,
        &json!({"samples": 16, "validation_samples": 32, "budget": 0}),
    ));
    assert!(
        candidates(&document)
            .iter()
            .all(|c| c.refined_from.is_none())
    );
    assert!(document.warnings.iter().any(|w| w.code == "not_refined"));
    let least = candidates(&document)[0].error.value;
    assert_eq!(document.error.unwrap().value, least);
}

#[test]
fn the_same_request_gives_the_same_schedule_at_any_number_of_threads() {
    let request = json!({
        "model": "fashion-mnist", "solver": "dpmpp_2m", "nfe": 3,
        "calibrate": {"samples": 8, "validation_samples": 8, "budget": 30},
    });
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| answer(&request))
    };
    assert_eq!(on(1).id, on(3).id);
}

#[test]
fn an_automatic_solver_is_one_that_was_measured() {
    let document = answer(&request(
        &json!("auto"),
        6,
        &json!({"samples": 32, "validation_samples": 64, "budget": 120}),
    ));
    let report = document.calibration.as_ref().unwrap();
    assert!(report.rollouts <= 120, "{} rollouts", report.rollouts);
    let answer = report.candidates.iter().find(|c| c.answer).unwrap();
    assert_eq!(document.solver, answer.solver);
    assert_eq!(document.error.unwrap(), answer.error);
    let names: std::collections::BTreeSet<&str> = candidates(&document)
        .iter()
        .map(|c| c.solver.name.as_str())
        .collect();
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn heun_is_calibrated_at_odd_and_even_numbers_of_evaluations() {
    for nfe in [5, 6] {
        let document = answer(&request(
            &json!("heun"),
            nfe,
            &json!({"samples": 32, "validation_samples": 64, "budget": 80}),
        ));
        let error = document.error.unwrap().value;
        let starts = candidates(&document)
            .iter()
            .filter(|c| c.refined_from.is_none());
        let best = starts.map(|c| c.error.value).fold(f64::INFINITY, f64::min);
        assert!(error < best, "{nfe}: {error} against {best}");
    }
}

#[test]
fn stochastic_samplers_are_measured_on_the_path_of_their_own_fine_solve() {
    for solver in ["sde_dpmpp_2m", "euler_ancestral"] {
        let error = |nfe: u32| {
            let measured = json!({"samples": 16, "validation_samples": 64, "budget": 0});
            let document = answer(&request(&json!(solver), nfe, &measured));
            document.error.unwrap().value
        };
        // On another path the distance would stay what it is between any two samples.
        let (coarse, fine) = (error(6), error(32));
        assert!(fine < 0.7 * coarse, "{solver}: {fine} against {coarse}");
    }
}

#[test]
fn snapped_candidates_are_measured_as_they_are_answered() {
    let mut request = request(
        &json!("unipc"),
        5,
        &json!({"samples": 16, "validation_samples": 32, "budget": 60}),
    );
    request["snap"] = json!(true);
    let document = answer(&request);
    assert!(
        document.timesteps.iter().all(|t| t.fract() == 0.0),
        "{:?}",
        document.timesteps
    );
}

/// A mixture that misbehaves from its `after`th batch on.
struct Misbehaving<'a> {
    mixture: Mixture,
    batches: AtomicUsize,
    after: usize,
    how: Misbehaviour<'a>,
}

enum Misbehaviour<'a> {
    AskToStop(&'a AtomicBool),
    RunOutOfMemory,
    AnswerNan,
}

impl Denoiser for Misbehaving<'_> {
    fn shape(&self) -> &[usize] {
        self.mixture.shape()
    }

    fn classes(&self) -> u32 {
        self.mixture.classes()
    }

    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        let answer = self.mixture.denoise(x, level, conditioning);
        if self.batches.fetch_add(1, Ordering::SeqCst) + 1 < self.after {
            return answer;
        }
        match self.how {
            Misbehaviour::AskToStop(stop) => {
                stop.store(true, Ordering::SeqCst);
                answer
            }
            Misbehaviour::RunOutOfMemory => Err(DenoiserError::OutOfMemory {
                device: "cuda:0".to_owned(),
            }),
            Misbehaviour::AnswerNan => Ok(Batch::new(vec![f32::NAN; x.data().len()], x.samples())),
        }
    }
}

/// A short calibration from one start.
fn calibrate_on(
    denoiser: &dyn Denoiser,
    stop: &AtomicBool,
) -> Result<calibrate::Outcome, CalibrateError> {
    let table = VpTable::scaled_linear(0.00085, 0.012, 1000);
    let noise = NoiseSchedule::new(&NoiseSpec::Vp(table)).unwrap();
    let settings = Settings {
        samples: 8,
        validation_samples: 8,
        budget: 40,
        labels: Vec::new(),
        seed: 1,
        snap: false,
        shown: 0,
    };
    let lambdas = vec![-2.5, -1.0, 0.5, 2.0];
    let start = Candidate {
        name: "even".to_owned(),
        solver: Solver::Dpmpp2m,
        schedule: Schedule::from_lambdas(&noise, lambdas, Terminal::Denoise).unwrap(),
    };
    let mut last = (Phase::Teacher, 0.0);
    let outcome =
        calibrate::calibrate(&noise, denoiser, &settings, vec![start], stop, &mut |now| {
            let share = now.evaluations as f64 / now.planned as f64;
            assert!(share > 0.0 && share <= 1.5, "{now:?}");
            last = (now.phase, share);
        });
    if outcome.is_ok() {
        assert_eq!(last.0, Phase::Validation);
    }
    outcome
}

/// Calibrates on a misbehaving denoiser; also tells how many batches it was asked for.
fn calibrated(
    after: usize,
    how: Misbehaviour,
    stop: &AtomicBool,
) -> (Result<calibrate::Outcome, CalibrateError>, usize) {
    let denoiser = Misbehaving {
        mixture: Mixture::ring(),
        batches: AtomicUsize::new(0),
        after,
        how,
    };
    let outcome = calibrate_on(&denoiser, stop);
    (outcome, denoiser.batches.into_inner())
}

/// Takes its batches in pieces, some of them at a time.
struct InPieces(Mixture, Capacity);

impl Denoiser for InPieces {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn classes(&self) -> u32 {
        self.0.classes()
    }

    fn capacity(&self) -> Capacity {
        self.1
    }

    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        assert!(x.samples() <= self.1.samples);
        self.0.denoise(x, level, conditioning)
    }
}

#[test]
fn pieces_side_by_side_end_as_one_batch_does() {
    let never = AtomicBool::new(false);
    let whole = calibrate_on(&Mixture::ring(), &never).unwrap();
    for (samples, in_flight) in [(3, 1), (3, 2), (1, 4), (8, 2)] {
        let capacity = Capacity { samples, in_flight };
        let pieces = calibrate_on(&InPieces(Mixture::ring(), capacity), &never).unwrap();
        assert_eq!(pieces, whole, "{capacity:?}");
    }
    let stopped = AtomicBool::new(true);
    let capacity = Capacity {
        samples: 1,
        in_flight: 3,
    };
    let outcome = calibrate_on(&InPieces(Mixture::ring(), capacity), &stopped);
    assert!(
        matches!(outcome, Err(CalibrateError::Stopped)),
        "{outcome:?}"
    );
}

#[test]
fn a_calibration_stops_within_one_batch() {
    for after in [1, 40, 120, 200] {
        let stop = AtomicBool::new(false);
        let (outcome, batches) = calibrated(after, Misbehaviour::AskToStop(&stop), &stop);
        assert!(
            matches!(outcome, Err(CalibrateError::Stopped)),
            "{outcome:?}"
        );
        assert_eq!(batches, after);
    }
}

#[test]
fn a_denoiser_that_fails_is_told_of() {
    let never = AtomicBool::new(false);
    let (outcome, _) = calibrated(150, Misbehaviour::RunOutOfMemory, &never);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("cuda:0 is out of memory"), "{error}");
    let (outcome, _) = calibrated(100, Misbehaviour::AnswerNan, &never);
    assert!(
        matches!(outcome, Err(CalibrateError::NotFinite { .. })),
        "{outcome:?}"
    );
}

#[test]
fn weights_that_changed_since_the_request_are_refused() {
    let mut changed = effective(&request(&json!("unipc"), 5, &json!({})));
    changed.calibrate.as_mut().unwrap().weights = "images-0".to_owned();
    let never = AtomicBool::new(false);
    let refused = optimize(&changed, &Models::built_in().unwrap(), &never, &mut |_| {});
    assert!(
        matches!(refused, Err(OptimizeError::Model(LoadError::Changed(_)))),
        "{refused:?}"
    );
}
