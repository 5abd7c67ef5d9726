//! What the store keeps, as its callers see it.

use crate::lifecycle::{Ending, State, Status, Work};

/// A stored schedule. `document` is its JSON as served.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ScheduleRecord {
    pub id: String,
    pub model: String,
    pub solver: String,
    #[sqlx(try_from = "i32")]
    pub nfe: u16,
    pub method: String,
    pub document: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A request to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// A ULID, so that the order of ids is the order of acceptance.
    pub id: String,
    /// Digest of the effective request.
    pub digest: String,
    pub model: String,
    pub solver: String,
    pub nfe: u16,
    /// The effective request as JSON.
    pub request: String,
    pub work: Work,
    /// Every point is a minute's head start over jobs of priority 0.
    pub priority: i64,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    pub id: String,
    pub digest: String,
    /// The effective request as JSON.
    pub request: String,
    pub status: Status,
    /// What the holder last reported, as JSON.
    pub progress: Option<String>,
    /// Present once the job has ended.
    pub outcome: Option<JobOutcome>,
    pub created_at: String,
    pub finished_at: Option<String>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    Succeeded { schedule: ScheduleRecord },
    Failed(Failure),
    Canceled,
}

impl JobOutcome {
    #[must_use]
    pub fn ending(&self) -> Ending {
        match self {
            Self::Succeeded { .. } => Ending::Succeeded,
            Self::Failed(_) => Ending::Failed,
            Self::Canceled => Ending::Canceled,
        }
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable name, such as `worker-lost`.
    pub code: String,
    pub detail: String,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLine {
    pub id: String,
    pub digest: String,
    pub state: State,
    pub model: String,
    pub solver: String,
    pub nfe: u16,
    pub schedule_id: Option<String>,
    pub failure: Option<Failure>,
    pub created_at: String,
    pub finished_at: Option<String>,
}

/// A job in the hands of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub id: String,
    pub digest: String,
    /// The effective request as JSON.
    pub request: String,
    /// Proof of the claim.
    pub epoch: i64,
    pub attempt: i64,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A registered model. `document` is its JSON as served.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ModelRecord {
    pub id: String,
    pub document: String,
    pub created_at: String,
}

/// A call that is due: somebody wants to know that a job has ended.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Delivery {
    /// The same for every attempt, so that the receiver knows a repetition.
    pub id: String,
    pub job_id: String,
    pub url: String,
    /// Attempts so far, this one included.
    pub attempts: i64,
}

/// Which schedules to list; absent fields admit everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleFilter {
    pub model: Option<String>,
    pub solver: Option<String>,
    pub nfe: Option<u16>,
    pub method: Option<String>,
}

/// Which jobs to list; absent fields admit everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub state: Option<State>,
    pub model: Option<String>,
}

/// Jobs that wait and jobs that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Load {
    pub queued: i64,
    pub running: i64,
}
