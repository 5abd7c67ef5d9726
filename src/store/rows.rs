//! Rows as the databases give them, and the records they are.

use super::StoreError;
use super::records::{Claimed, Failure, JobLine, JobOutcome, JobRecord, ScheduleRecord};
use crate::lifecycle::{State, Status};
use sqlx::FromRow;

/// The columns of a [`Status`].
#[derive(FromRow)]
pub struct StatusRow {
    state: String,
    epoch: i64,
    attempts: i64,
    run_after: i64,
    worker: Option<String>,
    lease_until: Option<i64>,
    cancel_requested: bool,
}

/// A job under decision: its id and status.
#[derive(FromRow)]
pub struct HeldRow {
    pub id: String,
    #[sqlx(flatten)]
    status: StatusRow,
}

/// A job that a worker may claim.
#[derive(FromRow)]
pub struct ClaimableRow {
    id: String,
    digest: String,
    request: String,
    created_at: String,
    #[sqlx(flatten)]
    status: StatusRow,
}

/// A job with its schedule, where it has one.
#[derive(FromRow)]
pub struct JobRow {
    id: String,
    digest: String,
    request: String,
    #[sqlx(flatten)]
    status: StatusRow,
    progress: Option<String>,
    error_code: Option<String>,
    error: Option<String>,
    created_at: String,
    finished_at: Option<String>,
    schedule_id: Option<String>,
    schedule_model: Option<String>,
    schedule_solver: Option<String>,
    schedule_nfe: Option<i32>,
    schedule_method: Option<String>,
    schedule_document: Option<String>,
    schedule_created_at: Option<String>,
}

/// A job in a list.
#[derive(FromRow)]
pub struct JobLineRow {
    id: String,
    digest: String,
    state: String,
    model: String,
    solver: String,
    nfe: i32,
    schedule_id: Option<String>,
    error_code: Option<String>,
    error: Option<String>,
    created_at: String,
    finished_at: Option<String>,
}

impl TryFrom<StatusRow> for Status {
    type Error = StoreError;

    fn try_from(row: StatusRow) -> Result<Self, StoreError> {
        Ok(Self {
            state: state(&row.state)?,
            epoch: row.epoch,
            attempts: row.attempts,
            run_after: row.run_after,
            worker: row.worker,
            lease_until: row.lease_until,
            cancel_requested: row.cancel_requested,
        })
    }
}

impl HeldRow {
    pub fn status(self) -> Result<Status, StoreError> {
        self.status.try_into()
    }
}

impl ClaimableRow {
    /// The job with its status before the claim.
    pub fn split(self) -> Result<(Claimed, Status), StoreError> {
        let claimed = Claimed {
            id: self.id,
            digest: self.digest,
            request: self.request,
            epoch: 0,
            attempt: 0,
            created_at: self.created_at,
        };
        Ok((claimed, self.status.try_into()?))
    }
}

impl TryFrom<JobRow> for JobRecord {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self, StoreError> {
        let status = Status::try_from(row.status)?;
        let incomplete = || StoreError::Corrupt(format!("the outcome of job `{}`", row.id));
        let schedule = || {
            Some(ScheduleRecord {
                id: row.schedule_id?,
                model: row.schedule_model?,
                solver: row.schedule_solver?,
                nfe: u16::try_from(row.schedule_nfe?).ok()?,
                method: row.schedule_method?,
                document: row.schedule_document?,
                created_at: row.schedule_created_at?,
            })
        };
        let outcome = match status.state {
            State::Queued | State::Running => None,
            State::Canceled => Some(JobOutcome::Canceled),
            State::Succeeded => Some(JobOutcome::Succeeded {
                schedule: schedule().ok_or_else(incomplete)?,
            }),
            State::Failed => Some(JobOutcome::Failed(
                failure(row.error_code, row.error).ok_or_else(incomplete)?,
            )),
        };
        Ok(Self {
            id: row.id,
            digest: row.digest,
            request: row.request,
            status,
            progress: row.progress,
            outcome,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

impl TryFrom<JobLineRow> for JobLine {
    type Error = StoreError;

    fn try_from(row: JobLineRow) -> Result<Self, StoreError> {
        Ok(Self {
            state: state(&row.state)?,
            nfe: u16::try_from(row.nfe)
                .map_err(|_| StoreError::Corrupt(format!("the nfe of job `{}`", row.id)))?,
            id: row.id,
            digest: row.digest,
            model: row.model,
            solver: row.solver,
            schedule_id: row.schedule_id,
            failure: failure(row.error_code, row.error),
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

fn state(text: &str) -> Result<State, StoreError> {
    text.parse().map_err(StoreError::Corrupt)
}

fn failure(code: Option<String>, detail: Option<String>) -> Option<Failure> {
    Some(Failure {
        code: code?,
        detail: detail?,
    })
}
