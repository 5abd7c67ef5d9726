//! `POST /v1/jobs`: ask for a schedule.

use super::super::App;
use super::super::extract::{JsonText, Query, parse};
use super::super::models;
use super::super::problem::Problem;
use super::preference::Preference;
use crate::api::{
    Digest, DryRun, Effective, InvalidField, JobDocument, ModelInfo, OptimizeRequest, resolve,
};
use crate::jobs::{Key, Submission, document};
use crate::optimize;
use crate::schedule::families;
use crate::store::memo::Entry;
use crate::store::{JobOutcome, JobRecord};
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use utoipa::IntoParams;

const PRIORITY: std::ops::RangeInclusive<i64> = -9..=9;
/// Longest `Idempotency-Key` taken.
const MAX_KEY: usize = 255;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    /// Answer the effective request and its cost, and compute nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Ask for a schedule.
///
/// A known request is answered at once. Otherwise the job is stored and then waited for as long as `Prefer: wait=N` says
/// (1 s without a preference, 60 s at most, not at all with `respond-async`); after that the answer is 202 with the job's
/// address. An accepted job survives the service. With an `Idempotency-Key` a repetition within a day answers with the job
/// of the first time, even if that failed or was canceled.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    params(
        SubmitQuery,
        ("Prefer" = Option<String>, Header, description = "`wait=N` seconds or `respond-async` (RFC 7240)"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, 1 to 255 printable characters"),
    ),
    request_body = OptimizeRequest,
    responses(
        (status = 200, description = "The finished job with its schedule (or, for a dry run, the effective request)", body = JobDocument),
        (status = 202, description = "The job is under way: look at `Location`", body = JobDocument),
        (status = 400, description = "Malformed JSON", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A wrong field, or a key that stands for another request", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests from this address: see `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many jobs wait: see `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The service's disk is full", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(app): State<App>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Response, Problem> {
    app.rate_limit.admit(client.ip(), 1)?;
    let key = idempotency_key(&headers)?;
    let body_key = body_key(&body).filter(|_| !query.dry_run && key.is_none());
    if let Some(entry) = body_key.as_ref().and_then(|key| app.memo.get(key)) {
        return Ok(known(entry.body, "memory"));
    }
    let preference = Preference::of(&headers);
    let request: OptimizeRequest = parse(&body)?;
    if query.dry_run {
        app.check_delivery(&request)?;
        let effective = app.effective(&request).await?;
        let answer = DryRun {
            digest: effective.digest().to_string(),
            cost: effective.cost(),
            request: effective,
        };
        return Ok(axum::Json(answer).into_response());
    }
    let key = key.map(|name| Key {
        name,
        item: None,
        fingerprint: Digest::of_bytes(&body).to_string(),
    });
    let outcome = app.submit(&request, key, preference.wait()).await?;
    let status = outcome.status();
    let mut response = match outcome {
        Outcome::Known(entry, source) => {
            let never_changes = request
                .model_id()
                .is_none_or(|id| families::find(id).is_some());
            if request.webhook.is_none() && never_changes {
                app.memo.put_under(body_key, &entry);
            }
            return Ok(known(entry.body, source));
        }
        Outcome::Job(job) if status == StatusCode::ACCEPTED => accepted(&job),
        Outcome::Job(job) => json(status, encoded(&job)),
    };
    if let Some(applied) = preference.applied() {
        let name = header::HeaderName::from_static("preference-applied");
        response.headers_mut().insert(name, applied);
    }
    Ok(response)
}

/// What became of a request.
pub(super) enum Outcome {
    /// It was answered before; where the answer was found.
    Known(Entry, &'static str),
    /// Its job as it is after the wait.
    Job(Box<JobDocument>),
}

impl Outcome {
    /// 200 where there is an end to tell of, 202 where the job is under way.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Job(job) if job.finished_at.is_none() => StatusCode::ACCEPTED,
            Self::Known(..) | Self::Job(_) => StatusCode::OK,
        }
    }
}

impl App {
    /// Reads a request with the registered model it may name.
    pub(in crate::http) async fn effective(
        &self,
        request: &OptimizeRequest,
    ) -> Result<Effective, Problem> {
        let registered = match request.model_id() {
            Some(id) => models::registered(self, id).await?,
            None => None,
        };
        let noise = registered.map(|model| model.noise);
        let (models, asked) = (self.models.clone(), request.clone());
        let known = if optimize::asks_for_denoiser(request, noise.as_ref()).is_some() {
            let reading = move |_: &AtomicBool| optimize::known(&asked, noise, &models);
            self.jobs.run(reading).await??
        } else {
            optimize::known(&asked, noise, &models)?
        };
        Ok(resolve(request, &known)?)
    }

    /// Answers a request from what is known, or by a job, waited for at most `patience`.
    pub(super) async fn submit(
        &self,
        request: &OptimizeRequest,
        key: Option<Key>,
        patience: Duration,
    ) -> Result<Outcome, Problem> {
        self.check_delivery(request)?;
        let effective = self.effective(request).await?;
        let digest = effective.digest();
        let is_plain = key.is_none() && request.webhook.is_none();
        if is_plain && let Some((entry, source)) = self.known(&digest).await? {
            return Ok(Outcome::Known(entry, source));
        }
        if let Some(model) = ModelInfo::of_inline(&effective.model, &effective.noise) {
            models::remember(self, &model).await?;
        }
        let submission = Submission {
            effective,
            priority: request.priority.unwrap_or(0),
            webhook: request.webhook.clone(),
            key,
        };
        let submitted = self.jobs.submit(submission).await?;
        let cached = submitted.existing && submitted.job.outcome.is_some();
        let mut job = submitted.job;
        if job.outcome.is_none() {
            // The job is accepted whether or not it can be read again.
            match self.jobs.wait(&job.id, patience).await {
                Ok(waited) => job = waited.unwrap_or(job),
                Err(error) => tracing::error!(%error, job = job.id, "cannot wait for the job"),
            }
        }
        if let Some(entry) = entry_of(&job) {
            self.memo.put(digest_key(&job.digest), entry);
        }
        Ok(Outcome::Job(Box::new(JobDocument {
            cached,
            deduplicated: submitted.existing && !cached,
            ..self.shown(&job)
        })))
    }

    /// A request's answer, where there is one.
    async fn known(&self, digest: &Digest) -> Result<Option<(Entry, &'static str)>, Problem> {
        if let Some(entry) = self.memo.get(&digest_key(digest.as_str())) {
            return Ok(Some((entry, "memory")));
        }
        let job = self.store.job_of_digest(digest.as_str()).await?;
        let Some(entry) = job.as_ref().and_then(entry_of) else {
            return Ok(None);
        };
        self.memo.put(digest_key(digest.as_str()), entry.clone());
        Ok(Some((entry, "store")))
    }

    /// Checks what a request says about its own treatment.
    fn check_delivery(&self, request: &OptimizeRequest) -> Result<(), Problem> {
        if request.priority.is_some_and(|p| !PRIORITY.contains(&p)) {
            return Err(InvalidField::new("/priority", "must be from -9 to 9").into());
        }
        let Some(url) = &request.webhook else {
            return Ok(());
        };
        let checked = match &self.webhooks {
            Some(webhooks) => webhooks.check(url),
            None => Err(
                "this service makes no calls: its operator has set no webhook secret".to_owned(),
            ),
        };
        checked.map_err(|detail| InvalidField::new("/webhook", detail).into())
    }
}

/// The client's name for its request.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_idempotency_key",
            format!("an Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters"),
        ));
    }
    Ok(Some(key.to_owned()))
}

/// Bodies up to this size are keys of the memo, where the same bytes are the same request for good: about built-in and inline models.
const MAX_BODY_KEY: usize = 4096;

fn body_key(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    (text.len() <= MAX_BODY_KEY).then(|| format!("body/{text}"))
}

fn digest_key(digest: &str) -> String {
    format!("digest/{digest}")
}

/// The answer to a request that was answered before.
fn known(body: Bytes, source: &'static str) -> Response {
    metrics::counter!("fewstep_cache_hits_total", "source" => source).increment(1);
    json(StatusCode::OK, body)
}

/// A success as the next caller, who will find it cached, gets it.
fn entry_of(job: &JobRecord) -> Option<Entry> {
    let Some(JobOutcome::Succeeded { schedule }) = &job.outcome else {
        return None;
    };
    let document = JobDocument {
        cached: true,
        ..document(job)
    };
    Some(Entry {
        schedule_id: Arc::from(schedule.id.as_str()),
        body: encoded(&document),
    })
}

fn accepted(job: &JobDocument) -> Response {
    let mut response = json(StatusCode::ACCEPTED, encoded(job));
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id)) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn encoded(document: &JobDocument) -> Bytes {
    Bytes::from(serde_json::to_vec(document).unwrap_or_default())
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
