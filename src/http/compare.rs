//! `/v1/compare`: the optimised schedule beside the rules and a user's own lists.

use super::App;
use super::extract::Json;
use super::problem::Problem;
use crate::api::{CompareRequest, Comparison, Effective, InvalidField};
use crate::optimize::compare::{self, given_lambdas};
use crate::schedule::NoiseSchedule;
use crate::store::JobOutcome;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use std::net::SocketAddr;

/// Lists of noise levels a request may bring.
const MAX_GIVEN: usize = 20;

/// Compare schedules of one model, solver and NFE by the midpoint proxy, or by what a finished calibration measured.
#[utoipa::path(
    post,
    path = "/v1/compare",
    request_body = CompareRequest,
    responses(
        (status = 200, description = "The schedule and a row for each list", body = Comparison),
        (status = 409, description = "The calibration asked about is not finished", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A wrong field", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests from this address: see `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too much work waits: see `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn compare(
    State(app): State<App>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Json(request): Json<CompareRequest>,
) -> Result<axum::Json<Comparison>, Problem> {
    app.rate_limit.admit(client.ip(), 1)?;
    if request.given.len() > MAX_GIVEN {
        let detail = format!("at most {MAX_GIVEN} lists are compared at a time");
        return Err(InvalidField::new("/given", detail).into());
    }
    let treatment = [
        ("priority", request.request.priority.is_some()),
        ("webhook", request.request.webhook.is_some()),
    ];
    if let Some((field, _)) = treatment.iter().find(|(_, is_given)| *is_given) {
        let detail = "is for jobs, and a comparison is answered at once: remove it";
        return Err(InvalidField::new(format!("/request/{field}"), detail).into());
    }
    let effective = app.effective(&request.request).await?;
    let noise = NoiseSchedule::new(&effective.noise.spec())
        .map_err(|error| InvalidField::new("/request/model", error.to_string()))?;
    let given = given_lambdas(&request.given.iter().collect::<Vec<_>>(), &effective)?;
    let comparison = if effective.calibrate.is_some() {
        app.measured(&effective, &noise, given.is_empty()).await?
    } else {
        let models = app.models.clone();
        app.jobs
            .run(move |stop| compare::compare(&effective, &given, &models, stop, &mut |_| {}))
            .await??
    };
    Ok(axum::Json(comparison))
}

impl App {
    /// What a finished calibration measured; a comparison does not wait minutes for one.
    async fn measured(
        &self,
        effective: &Effective,
        noise: &NoiseSchedule,
        nothing_given: bool,
    ) -> Result<Comparison, Problem> {
        if !nothing_given {
            let detail = "own noise levels are measured by the command line, `fewstep compare --calibrate --given NAME=LEVELS`: \
                          remove them, or remove /request/calibrate to score them by the proxy";
            return Err(InvalidField::new("/given", detail).into());
        }
        let job = self
            .store
            .job_of_digest(effective.digest().as_str())
            .await?;
        let Some(JobOutcome::Succeeded { schedule }) = job.and_then(|job| job.outcome) else {
            let detail = "this calibration is not finished: POST the request to /v1/jobs, and compare when its job is done";
            return Err(Problem::new(StatusCode::CONFLICT, "not_calibrated", detail));
        };
        let schedule = serde_json::from_str(&schedule.document).map_err(|error| {
            tracing::error!(%error, id = schedule.id, "a stored schedule is unreadable");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the stored schedule is unreadable",
            )
        })?;
        Ok(compare::measured(schedule, effective, noise))
    }
}
