//! `GET /v1/jobs/{id}/events`: a job as server-sent events.

use super::super::App;
use super::super::extract::Path;
use super::super::problem::Problem;
use super::no_such_job;
use crate::jobs::{Follower, JobEvent, Position, document};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;

/// Follow a job.
///
/// Events are `state` (state, attempts), `progress` (phase, fraction, best fitness so far, evaluations) and at last `result`
/// (the job). A client that reconnects with `Last-Event-ID`, to any server, gets what it has not seen; after the result, 204.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    params(
        ("id" = String, Path, description = "Job id"),
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event seen"),
    ),
    responses(
        (status = 200, description = "Events until the job has ended", content_type = "text/event-stream"),
        (status = 204, description = "You have seen the result"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn follow(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = app.store.job(&id).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse::<Position>().ok())
        .filter(|last| last.is_of(&job));
    if job.outcome.is_some() && last.is_some_and(|last| last.is_last()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = app.jobs.follow(&id, last);
    let events = stream::unfold(follower, async |mut follower| {
        let event = next(&mut follower).await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response())
}

/// The next event as it is written. A stream that the store fails ends; its client comes back.
async fn next(follower: &mut Follower) -> Option<Event> {
    let (position, event) = match follower.next().await {
        Ok(event) => event?,
        Err(error) => {
            tracing::error!(%error, "a job could not be followed any further");
            return None;
        }
    };
    let (name, data) = match event {
        JobEvent::State(job) => {
            let job = document(&job);
            let data = serde_json::json!({"state": job.state, "attempts": job.attempts});
            ("state", data.to_string())
        }
        JobEvent::Progress(progress) => ("progress", serde_json::json!(progress).to_string()),
        JobEvent::Result(job) => {
            let job = serde_json::to_string(&document(&job));
            ("result", job.unwrap_or_default())
        }
    };
    Some(
        Event::default()
            .event(name)
            .id(position.to_string())
            .data(data),
    )
}
