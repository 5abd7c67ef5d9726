//! `/v1/jobs`: look at jobs and end them. Asking for them is [`submit`]'s and [`batch`]'s part, watching them
//! [`events`]'.

pub mod batch;
pub mod events;
mod preference;
pub mod submit;

use super::App;
use super::extract::{Path, Query};
use super::page::Page;
use super::problem::Problem;
use crate::api::{JobDocument, JobList, JobSummary};
use crate::jobs::document;
use crate::lifecycle;
use crate::store::operations::Canceled;
use crate::store::{JobFilter, JobOutcome, JobRecord};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// How long an answer to a cancellation waits for a job that runs.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// Look at a job.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    params(("id" = String, Path, description = "Job id")),
    responses(
        (status = 200, description = "The job", body = JobDocument),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<axum::Json<JobDocument>, Problem> {
    match app.store.job(&id).await? {
        Some(job) => Ok(axum::Json(app.shown(&job))),
        None => Err(no_such_job(&id)),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Jobs in this state only.
    #[param(inline)]
    state: Option<lifecycle::State>,
    /// Jobs for this model only.
    model: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Entries a page, 1 to 200; 50 unless given.
    limit: Option<u32>,
}

/// Jobs, newest first.
///
/// Failed and canceled jobs are deleted some time after they ended (30 days unless the service is told otherwise).
#[utoipa::path(
    get,
    path = "/v1/jobs",
    params(ListQuery),
    responses((status = 200, description = "A page of jobs", body = JobList))
)]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<JobList>, Problem> {
    let page = Page::of(query.limit);
    let filter = JobFilter {
        state: query.state,
        model: query.model,
    };
    let lines = app
        .store
        .jobs(&filter, query.cursor.as_deref(), page.rows());
    let (lines, next_cursor) = page.cut(lines.await?, |line| &line.id);
    Ok(axum::Json(JobList {
        jobs: lines.into_iter().map(JobSummary::from).collect(),
        next_cursor,
    }))
}

/// End a job.
///
/// A job that waits ends at once; one that runs ends as soon as its worker hears of it, a second or so. Repeating does no
/// harm.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    params(("id" = String, Path, description = "Job id")),
    responses(
        (status = 200, description = "The job has ended", body = JobDocument),
        (status = 202, description = "The job's worker is told", body = JobDocument),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The job succeeded or failed before", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
    let job = match app.jobs.cancel(&id).await? {
        Canceled::NoSuchJob => return Err(no_such_job(&id)),
        Canceled::TooLate(state) => return Err(too_late(state)),
        Canceled::Yes(job) if job.outcome.is_some() => *job,
        Canceled::Yes(_) => {
            let waited = app.jobs.wait(&id, CANCEL_WAIT).await?;
            waited.ok_or_else(|| no_such_job(&id))?
        }
    };
    let status = match job.outcome {
        Some(JobOutcome::Canceled) => StatusCode::OK,
        Some(_) => return Err(too_late(job.status.state)),
        None => StatusCode::ACCEPTED,
    };
    Ok((status, axum::Json(app.shown(&job))).into_response())
}

fn too_late(state: lifecycle::State) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "job_ended",
        format!("the job cannot be canceled any more: it {}", state.as_str()),
    )
}

fn no_such_job(id: &str) -> Problem {
    Problem::not_found(format!("there is no job `{id}`"))
}

impl App {
    /// A job with the latest progress known here.
    fn shown(&self, job: &JobRecord) -> JobDocument {
        JobDocument {
            progress: self.jobs.board().progress(job),
            ..document(job)
        }
    }
}
