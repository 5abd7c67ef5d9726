//! From an effective request to its answer: runs the search or the calibration, scores the rules beside it and says what was
//! active.
//!
//! The one engine behind the service's jobs and the command line, so that both give the same bytes. Blocking CPU work on
//! the caller's thread (and the rayon pool it runs in); `observe` sees progress, setting `stop` ends it.

mod answer;
mod calibrated;
pub mod compare;
mod known;
mod pictures;
mod published;
mod search;
mod warnings;

use crate::api::{Effective, JobProgress, Plan, ScheduleDocument};
use crate::calibrate::CalibrateError;
use crate::denoiser::{DenoiserError, LoadError, Models};
use crate::hso::{Method, SearchError};
use crate::schedule::{NoiseError, NoiseSchedule, ScheduleError};
pub use known::{asks_for_denoiser, known, noise_of, with_denoiser};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

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
    #[error("the model cannot be used: {0}")]
    Model(LoadError),
    #[error("{0}")]
    Calibrate(CalibrateError),
    #[error("there are no pictures to show: {0}")]
    Pictures(String),
}

impl OptimizeError {
    /// Stable name for clients.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Model(LoadError::TooLarge { .. }) => "model-too-large",
            Self::Model(LoadError::OutOfMemory)
            | Self::Calibrate(CalibrateError::Denoiser(DenoiserError::OutOfMemory { .. })) => {
                "out-of-memory"
            }
            Self::Model(_) => "model-unusable",
            Self::Calibrate(_) | Self::Pictures(_) => "calibration-failed",
            Self::Schedule(_) | Self::Noise(_) | Self::Search(_) => "unanswerable",
        }
    }
}

impl From<SearchError> for OptimizeError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Stopped => Self::Stopped,
            SearchError::Unusable(_) => Self::Search(error),
        }
    }
}

impl From<LoadError> for OptimizeError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Stopped => Self::Stopped,
            error => Self::Model(error),
        }
    }
}

impl From<CalibrateError> for OptimizeError {
    fn from(error: CalibrateError) -> Self {
        match error {
            CalibrateError::Stopped => Self::Stopped,
            CalibrateError::Schedule(error) => Self::Schedule(error),
            error => Self::Calibrate(error),
        }
    }
}

/// Answers a request.
pub fn optimize(
    effective: &Effective,
    models: &Models,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&JobProgress),
) -> Result<ScheduleDocument, OptimizeError> {
    answered(effective, &[], models, stop, observe)
}

/// Answers a request; a calibration measures the `given` schedules too.
fn answered(
    effective: &Effective,
    given: &[(String, Vec<f64>)],
    models: &Models,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&JobProgress),
) -> Result<ScheduleDocument, OptimizeError> {
    let started = Instant::now();
    let noise = NoiseSchedule::new(&effective.noise.spec())?;
    let answer = match (&effective.calibrate, &effective.plan) {
        (Some(calibration), _) => {
            calibrated::answer(effective, calibration, models, given, noise, stop, observe)?
        }
        (None, Plan::Hso(settings)) => {
            search::answer(effective, settings, Method::Hso, noise, stop, observe)?
        }
        (None, Plan::HsoConstrained(settings)) => {
            let method = Method::HsoConstrained;
            search::answer(effective, settings, method, noise, stop, observe)?
        }
        (None, Plan::Published { .. }) => published::answer(effective, noise)?,
    };
    Ok(answer.into_document(effective, started))
}
