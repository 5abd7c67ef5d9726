//! `/v1/jobs`: ask for a schedule, and look how the asking goes.

use super::App;
use super::extract::{JsonText, Path, Query, parse};
use super::models;
use super::problem::Problem;
use crate::api::{
    DryRun, Effective, JobDocument, JobProgress, JobState, ModelInfo, OptimizeRequest, resolve,
};
use crate::jobs::{Flight, Landed, Phase};
use crate::store::memo::Entry;
use crate::store::{JobOutcome, JobRecord};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// A search takes milliseconds, so a client without a preference waits for it.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    /// Answer the effective request and its cost, and compute nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Ask for a schedule.
///
/// A known request is answered at once. Otherwise the answer waits for the search as long as `Prefer: wait=N` says (1 s
/// without a preference, 60 s at most, not at all with `respond-async`), and is 202 with the job's address after that.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    params(
        SubmitQuery,
        ("Prefer" = Option<String>, Header, description = "`wait=N` seconds or `respond-async` (RFC 7240)"),
    ),
    request_body = OptimizeRequest,
    responses(
        (status = 200, description = "The finished job with its schedule (or, for a dry run, the effective request)", body = JobDocument),
        (status = 202, description = "The job is under way: look at `Location`", body = JobDocument),
        (status = 400, description = "Malformed JSON", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A wrong field", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too much work waits: see `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(app): State<App>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Response, Problem> {
    let body_key = body_key(&body).filter(|_| !query.dry_run);
    if let Some(entry) = body_key.as_ref().and_then(|key| app.memo.get(key)) {
        return Ok(known(entry, "memory"));
    }
    let preference = Preference::of(&headers);
    let request: OptimizeRequest = parse(&body)?;
    let effective = app.effective(&request).await?;
    let digest = effective.digest();
    if query.dry_run {
        let answer = DryRun {
            digest: digest.to_string(),
            cost: effective.cost(),
            request: effective,
        };
        return Ok(axum::Json(answer).into_response());
    }
    let digest_key = format!("digest/{digest}");
    if let Some(entry) = app.memo.get(&digest_key) {
        app.memo.put_under(body_key, &entry);
        return Ok(known(entry, "memory"));
    }
    let stored = app.store.answer(digest.as_str()).await?;
    if let Some(entry) = stored.as_ref().and_then(entry_of) {
        app.memo.put_under(body_key, &entry);
        app.memo.put(digest_key, entry.clone());
        return Ok(known(entry, "store"));
    }
    if let Some(model) = ModelInfo::of_inline(&effective.model, &effective.noise) {
        models::remember(&app, &model).await?;
    }
    let submission = app.jobs.submit(effective)?;
    let flight = submission.flight;
    let mut response = match flight.wait(preference.wait()).await {
        Some(landed) => {
            let job = landed_document(&landed, submission.deduplicated);
            if let Some(entry) = entry_of(&landed.job) {
                app.memo.put_under(body_key, &entry);
                app.memo.put(digest_key, entry);
            }
            job_response(StatusCode::OK, &job)
        }
        None => accepted(&flight, submission.deduplicated),
    };
    if let Some(applied) = preference.applied() {
        let name = header::HeaderName::from_static("preference-applied");
        response.headers_mut().insert(name, applied);
    }
    Ok(response)
}

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
    if let Some(flight) = app.jobs.flight(&id) {
        return Ok(axum::Json(flight_document(&flight, false)));
    }
    match app.store.job(&id).await? {
        Some(job) => Ok(axum::Json(document(&job, false, false))),
        None => Err(Problem::not_found(format!(
            "there is no job `{id}`; jobs that a restart interrupted are gone: POST the request again"
        ))),
    }
}

impl App {
    /// Reads a request with the registered model it may name.
    pub(super) async fn effective(&self, request: &OptimizeRequest) -> Result<Effective, Problem> {
        let registered = match request.model_id() {
            Some(id) => models::registered(self, id).await?,
            None => None,
        };
        Ok(resolve(
            request,
            registered.as_ref().map(|model| &model.noise),
        )?)
    }
}

/// Bodies up to this size are keys of the memo: the same bytes are the same request, because models never change.
const MAX_BODY_KEY: usize = 4096;

fn body_key(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    (text.len() <= MAX_BODY_KEY).then(|| format!("body/{text}"))
}

/// The answer to a request that was answered before.
fn known(entry: Entry, source: &'static str) -> Response {
    metrics::counter!("fewstep_cache_hits_total", "source" => source).increment(1);
    json(StatusCode::OK, entry.body)
}

/// A success as the next caller, who will find it cached, gets it.
fn entry_of(job: &JobRecord) -> Option<Entry> {
    let JobOutcome::Succeeded { schedule } = &job.outcome else {
        return None;
    };
    let job = document(job, true, false);
    Some(Entry {
        schedule_id: Arc::from(schedule.id.as_str()),
        body: Bytes::from(serde_json::to_vec(&job).unwrap_or_default()),
    })
}

fn accepted(flight: &Flight, deduplicated: bool) -> Response {
    let mut response = job_response(StatusCode::ACCEPTED, &flight_document(flight, deduplicated));
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{}", flight.id)) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn job_response(status: StatusCode, job: &JobDocument) -> Response {
    json(
        status,
        Bytes::from(serde_json::to_vec(job).unwrap_or_default()),
    )
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn landed_document(landed: &Landed, deduplicated: bool) -> JobDocument {
    document(&landed.job, landed.cached, deduplicated)
}

fn document(job: &JobRecord, cached: bool, deduplicated: bool) -> JobDocument {
    let (state, schedule, error) = match &job.outcome {
        JobOutcome::Succeeded { schedule } => (JobState::Succeeded, Some(&schedule.document), None),
        JobOutcome::Failed { error } => (JobState::Failed, None, Some(error.clone())),
        JobOutcome::Canceled => (JobState::Canceled, None, None),
    };
    JobDocument {
        id: job.id.clone(),
        state,
        digest: job.digest.clone(),
        request: raw(&job.request),
        cached,
        deduplicated,
        created_at: job.created_at.clone(),
        finished_at: Some(job.finished_at.clone()),
        progress: None,
        schedule: schedule.map(|text| raw(text)),
        error,
    }
}

fn flight_document(flight: &Flight, deduplicated: bool) -> JobDocument {
    let (state, progress) = match flight.phase() {
        Phase::Landed(landed) => return landed_document(&landed, deduplicated),
        Phase::Queued => (JobState::Queued, None),
        Phase::Running(progress) => (JobState::Running, progress),
    };
    JobDocument {
        id: flight.id.clone(),
        state,
        digest: flight.digest.clone(),
        request: raw(&flight.request),
        cached: false,
        deduplicated,
        created_at: flight.created_at.clone(),
        finished_at: None,
        progress: progress.map(|p| JobProgress {
            phase: "search",
            fraction: p.generation as f64 / p.generations.max(1) as f64,
            best_fitness: p.best_fitness,
            evaluations: p.evaluations as u64,
        }),
        schedule: None,
        error: None,
    }
}

/// Stored JSON as it is.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("stored documents are JSON")
}

/// What RFC 7240's `Prefer` asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    None,
    Wait(Duration),
    Async,
}

impl Preference {
    fn of(headers: &HeaderMap) -> Self {
        let tokens = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ';']));
        let mut preference = Self::None;
        for token in tokens {
            let token = token.trim().to_ascii_lowercase();
            if token == "respond-async" && preference == Self::None {
                preference = Self::Async;
            } else if let Some(Ok(seconds)) = token.strip_prefix("wait=").map(str::parse::<u64>) {
                preference = Self::Wait(Duration::from_secs(seconds).min(MAX_WAIT));
            }
        }
        preference
    }

    fn wait(self) -> Duration {
        match self {
            Self::None => DEFAULT_WAIT,
            Self::Wait(patience) => patience,
            Self::Async => Duration::ZERO,
        }
    }

    fn applied(self) -> Option<HeaderValue> {
        let text = match self {
            Self::None => return None,
            Self::Wait(patience) => format!("wait={}", patience.as_secs()),
            Self::Async => "respond-async".to_owned(),
        };
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        let preference = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(text));
            Preference::of(&headers)
        };
        let seconds = |s| Preference::Wait(Duration::from_secs(s));
        assert_eq!(preference("wait=5"), seconds(5));
        assert_eq!(preference("respond-async, wait=10"), seconds(10));
        assert_eq!(preference("Wait=3600"), seconds(60));
        assert_eq!(preference("respond-async"), Preference::Async);
        assert_eq!(preference("wait=soon, return=minimal"), Preference::None);
    }
}
