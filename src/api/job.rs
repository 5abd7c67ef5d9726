//! Jobs and lists as the service shows them.

use super::document::ScheduleDocument;
use super::effective::Effective;
use super::request::OptimizeRequest;
use crate::lifecycle::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// An optimisation request on its way to a schedule.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobDocument {
    /// A ULID.
    pub id: String,
    pub state: State,
    /// Digest of the effective request: two requests with the same digest are one job.
    pub digest: String,
    #[schema(value_type = Effective)]
    pub request: Box<RawValue>,
    /// Whether the answer was known before this call.
    pub cached: bool,
    /// Whether this call joined a job under way.
    pub deduplicated: bool,
    /// Times it was begun; more than one where workers died.
    pub attempts: u64,
    /// Whether somebody asked it to end, and its worker has yet to hear of it.
    pub cancel_requested: bool,
    /// RFC 3339, UTC.
    pub created_at: String,
    pub finished_at: Option<String>,
    pub progress: Option<JobProgress>,
    #[schema(value_type = Option<ScheduleDocument>)]
    pub schedule: Option<Box<RawValue>>,
    /// Why the job failed.
    pub error: Option<JobError>,
}

/// Why a job failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobError {
    /// Stable name: `worker-lost`, `unanswerable`, `panicked`, ...
    pub code: String,
    pub detail: String,
}

/// How far a running job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobProgress {
    /// What is being done: `search`; `loading`, `teacher`, `screening`, `refining`, `validation` of a calibration.
    pub phase: String,
    /// Share done: of the most generations allowed, or of the denoiser evaluations planned.
    pub fraction: f64,
    /// Searches: null until something usable was found.
    pub best_fitness: Option<f64>,
    /// Calibrations: lowest error so far on the noise the search sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_error: Option<f64>,
    pub evaluations: u64,
    /// Calibrations: calls of the denoiser so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<u64>,
    /// Calibrations: estimate of the time left, once there is something to go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
}

/// What `?dry_run=true` answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRun {
    pub digest: String,
    pub request: Effective,
    /// Estimated work at most, in units of about a microsecond on one core.
    pub cost: u64,
}

/// A job in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobSummary {
    pub id: String,
    pub state: State,
    pub digest: String,
    pub model: String,
    pub solver: String,
    pub nfe: u16,
    pub created_at: String,
    pub finished_at: Option<String>,
    pub schedule_id: Option<String>,
    pub error: Option<JobError>,
    /// Where the job is.
    pub href: String,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobList {
    pub jobs: Vec<JobSummary>,
    /// Give this as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Several requests at a time, each with an outcome of its own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 100 requests.
    #[schema(value_type = Vec<OptimizeRequest>, min_items = 1, max_items = 100)]
    pub requests: Vec<Box<RawValue>>,
}

/// A stored schedule in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleSummary {
    pub id: String,
    pub model: String,
    pub solver: String,
    pub nfe: u16,
    pub method: String,
    pub created_at: String,
    /// Where the schedule is.
    pub href: String,
}

/// A page of stored schedules.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleList {
    pub schedules: Vec<ScheduleSummary>,
    /// Give this as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Every model the service knows.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    pub models: Vec<super::ModelInfo>,
}
