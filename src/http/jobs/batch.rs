//! `POST /v1/jobs/batch`: many requests at a time, each with an outcome of its own.

use super::super::App;
use super::super::extract::{JsonText, parse};
use super::super::problem::Problem;
use super::preference::Preference;
use super::submit::{Outcome, idempotency_key};
use crate::api::{BatchRequest, Digest, InvalidField, JobDocument, OptimizeRequest};
use crate::jobs::Key;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::net::SocketAddr;
use utoipa::ToSchema;

/// Requests in a batch.
const MAX_BATCH: usize = 100;

/// What became of a batch, in the order of its requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchDocument {
    pub outcomes: Vec<BatchOutcome>,
}

/// What became of one request: a job, or what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchOutcome {
    /// The status that this request would have been answered with alone.
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JobDocument>)]
    pub job: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Ask for up to 100 schedules, for example for every NFE from 3 to 20.
///
/// `Prefer` holds for the batch as a whole; an `Idempotency-Key` names the whole batch.
#[utoipa::path(
    post,
    path = "/v1/jobs/batch",
    params(
        ("Prefer" = Option<String>, Header, description = "`wait=N` seconds or `respond-async` (RFC 7240)"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this batch, 1 to 255 printable characters"),
    ),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "Every request has its outcome", body = BatchDocument),
        (status = 202, description = "Some jobs are under way", body = BatchDocument),
        (status = 422, description = "No list of 1 to 100 requests", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests from this address: see `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(app): State<App>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Response, Problem> {
    let batch: BatchRequest = parse(&body)?;
    if !(1..=MAX_BATCH).contains(&batch.requests.len()) {
        let detail = format!("a batch has 1 to {MAX_BATCH} requests");
        return Err(InvalidField::new("/requests", detail).into());
    }
    app.rate_limit.admit(client.ip(), batch.requests.len())?;
    let key = idempotency_key(&headers)?.map(|name| Key {
        name,
        item: None,
        fingerprint: Digest::of_bytes(&body).to_string(),
    });
    if let Some(key) = &key {
        app.jobs.name_batch(key.clone()).await?;
    }
    let patience = Preference::of(&headers).wait();
    let outcomes = batch.requests.iter().enumerate().map(async |(item, text)| {
        let key = key.clone().map(|key| Key {
            item: Some(item),
            ..key
        });
        let request: OptimizeRequest = parse(text.get().as_bytes())?;
        app.submit(&request, key, patience).await
    });
    let outcomes: Vec<BatchOutcome> = join_all(outcomes)
        .await
        .into_iter()
        .map(BatchOutcome::from)
        .collect();
    let is_pending = |outcome: &BatchOutcome| outcome.status == StatusCode::ACCEPTED.as_u16();
    let status = if outcomes.iter().any(is_pending) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, axum::Json(BatchDocument { outcomes })).into_response())
}

impl From<Result<Outcome, Problem>> for BatchOutcome {
    fn from(outcome: Result<Outcome, Problem>) -> Self {
        match outcome {
            Ok(outcome) => Self {
                status: outcome.status().as_u16(),
                job: match outcome {
                    Outcome::Known(entry, _) => serde_json::from_slice(&entry.body).ok(),
                    Outcome::Job(job) => to_raw_value(&job).ok(),
                },
                problem: None,
            },
            Err(problem) => Self {
                status: problem.status,
                job: None,
                problem: Some(problem),
            },
        }
    }
}
