//! Health, metrics and the specification.

use super::App;
use super::problem::Problem;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// Whether the process runs.
#[utoipa::path(get, path = "/healthz/live", responses((status = 200, description = "The process runs")))]
pub async fn live() -> &'static str {
    "ok\n"
}

/// Whether requests can be answered: the database is reachable.
#[utoipa::path(get, path = "/healthz/ready", responses(
    (status = 200, description = "Requests can be answered"),
    (status = 503, description = "The database does not answer", body = Problem, content_type = "application/problem+json"),
))]
pub async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    app.store.ping().await?;
    Ok("ok\n")
}

/// Counters and latencies in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Metrics", content_type = "text/plain")))]
pub async fn metrics(State(app): State<App>) -> String {
    app.metrics.render()
}

/// This document.
#[utoipa::path(get, path = "/openapi.yaml", responses((status = 200, description = "OpenAPI document", content_type = "application/yaml")))]
pub async fn openapi(State(app): State<App>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/yaml")],
        app.openapi.to_string(),
    )
}
