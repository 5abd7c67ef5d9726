//! The HTTP service: one file per resource, routes and their specification declared together.
//!
//! A request passes, outside in: request id, log span and metrics, problem documents ([`middleware`]); panic capture; a
//! time-out; the body limit; its handler. Handlers never compute: they ask `jobs`.

mod compare;
mod extract;
mod jobs;
mod middleware;
mod models;
mod problem;
mod schedules;
mod system;

pub use problem::Problem;

use crate::jobs::Jobs;
use crate::store::Store;
use crate::store::memo::Memo;
use axum::Router;
use axum::http::StatusCode;
use metrics_exporter_prometheus::PrometheusHandle;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest body taken.
const BODY_LIMIT: usize = 256 * 1024;
/// Longest a request may take; above the longest `Prefer: wait`.
const TIMEOUT: Duration = Duration::from_secs(75);
/// How long running work may go on after a stop was asked for.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of rendered answers kept in memory.
const MEMO_BYTES: u64 = 64 * 1024 * 1024;

/// What handlers share.
#[derive(Clone)]
pub struct App {
    store: Arc<dyn Store>,
    jobs: Jobs,
    memo: Memo,
    metrics: PrometheusHandle,
    openapi: Arc<str>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "fewstep",
    description = "Finds few-step sampling schedules for diffusion models and serves them."
))]
struct Specification;

/// The routes with their specification.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Specification::openapi())
        .routes(routes!(jobs::submit))
        .routes(routes!(jobs::show))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::by_id))
        .routes(routes!(schedules::by_key))
        .routes(routes!(models::list, models::register))
        .routes(routes!(models::show))
        .routes(routes!(compare::compare))
        .routes(routes!(system::live))
        .routes(routes!(system::ready))
        .routes(routes!(system::metrics))
        .routes(routes!(system::openapi))
}

/// The OpenAPI document, as YAML.
///
/// # Panics
/// Never: the document is made of plain data.
#[must_use]
pub fn openapi_yaml() -> String {
    let (_, document) = routes().split_for_parts();
    document.to_yaml().expect("the specification serialises")
}

impl App {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, jobs: Jobs, metrics: PrometheusHandle) -> Self {
        Self {
            store,
            jobs,
            memo: Memo::new(MEMO_BYTES),
            metrics,
            openapi: openapi_yaml().into(),
        }
    }
}

fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            TIMEOUT,
        ))
        .layer(CatchPanicLayer::custom(|_| {
            axum::response::IntoResponse::into_response(StatusCode::INTERNAL_SERVER_ERROR)
        }))
        .layer(axum::middleware::from_fn(middleware::observe))
        .with_state(app)
}

/// Serves until `stop` resolves, then lets open requests and running work finish.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (store, jobs) = (app.store.clone(), app.jobs.clone());
    let stopping = jobs.clone();
    axum::serve(listener, router(app))
        .with_graceful_shutdown(async move {
            stop.await;
            tracing::info!("stopping");
            stopping.stop(STOP_PATIENCE).await;
        })
        .await?;
    store.close().await;
    Ok(())
}
