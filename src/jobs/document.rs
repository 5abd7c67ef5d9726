//! A job as it is shown, and a schedule as it is stored.

use crate::api::{JobDocument, JobError, JobSummary, ScheduleDocument};
use crate::store::{Failure, JobLine, JobOutcome, JobRecord, ScheduleRecord};
use serde_json::value::RawValue;

/// A job as clients see it. Its progress is the [`Board`](super::Board)'s to tell.
///
/// # Panics
/// When the store holds documents that are no JSON.
#[must_use]
pub fn document(job: &JobRecord) -> JobDocument {
    let (schedule, error) = match &job.outcome {
        Some(JobOutcome::Succeeded { schedule }) => (Some(raw(&schedule.document)), None),
        Some(JobOutcome::Failed(failure)) => (None, Some(failure.into())),
        Some(JobOutcome::Canceled) | None => (None, None),
    };
    JobDocument {
        id: job.id.clone(),
        state: job.status.state,
        digest: job.digest.clone(),
        request: raw(&job.request),
        cached: false,
        deduplicated: false,
        attempts: job.status.attempts.unsigned_abs(),
        cancel_requested: job.status.cancel_requested,
        created_at: job.created_at.clone(),
        finished_at: job.finished_at.clone(),
        progress: None,
        schedule,
        error,
    }
}

/// Stored JSON as it is.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("stored documents are JSON")
}

impl From<&Failure> for JobError {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code.clone(),
            detail: failure.detail.clone(),
        }
    }
}

impl From<JobLine> for JobSummary {
    fn from(line: JobLine) -> Self {
        Self {
            href: format!("/v1/jobs/{}", line.id),
            id: line.id,
            state: line.state,
            digest: line.digest,
            model: line.model,
            solver: line.solver,
            nfe: line.nfe,
            created_at: line.created_at,
            finished_at: line.finished_at,
            schedule_id: line.schedule_id,
            error: line.failure.as_ref().map(JobError::from),
        }
    }
}

impl From<&ScheduleDocument> for ScheduleRecord {
    fn from(document: &ScheduleDocument) -> Self {
        let wire = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            id: document.id.to_string(),
            model: document.model.clone(),
            solver: document.solver.name.as_str().to_owned(),
            nfe: document.nfe.get(),
            method: wire(serde_json::json!(document.method)),
            document: serde_json::to_string(document).expect("documents serialise"),
            created_at: document.provenance.created_at.clone(),
        }
    }
}
