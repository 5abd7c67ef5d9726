//! The HTTP service: one file per resource, routes and their specification declared together.
//!
//! A request passes, outside in: request id, log span and metrics, problem documents ([`middleware`]); panic capture; a
//! time-out; its handler, whose extractors hold the limits on bodies. Handlers never compute: they ask `jobs`.

mod compare;
mod extract;
mod jobs;
mod middleware;
mod models;
mod page;
mod problem;
mod rate;
mod schedules;
mod system;

pub use problem::Problem;
pub use rate::RateLimit;

use crate::denoiser::Models;
use crate::jobs::Jobs;
use crate::store::Store;
use crate::store::memo::Memo;
use crate::webhooks::Webhooks;
use axum::Router;
use axum::http::StatusCode;
use metrics_exporter_prometheus::PrometheusHandle;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest a request may take; above the longest `Prefer: wait`.
const TIMEOUT: Duration = Duration::from_secs(75);
/// How long open connections may go on after a stop was asked for.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How often quiet clients are forgotten.
const FORGET: Duration = Duration::from_mins(1);
/// Bytes of rendered answers kept in memory.
const MEMO_BYTES: u64 = 64 * 1024 * 1024;

/// What handlers share.
#[derive(Clone)]
pub struct App {
    store: Arc<dyn Store>,
    jobs: Jobs,
    models: Arc<Models>,
    webhooks: Option<Webhooks>,
    rate_limit: RateLimit,
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
        .routes(routes!(jobs::submit::submit, jobs::list))
        .routes(routes!(jobs::batch::submit))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::events::follow))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::by_id))
        .routes(routes!(schedules::pictures))
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
    pub fn new(
        store: Arc<dyn Store>,
        jobs: Jobs,
        models: Arc<Models>,
        webhooks: Option<Webhooks>,
        rate_limit: RateLimit,
        metrics: PrometheusHandle,
    ) -> Self {
        Self {
            store,
            jobs,
            models,
            webhooks,
            rate_limit,
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

/// Serves until `stop` resolves, then ends all waiting and lets open requests finish for a moment.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (jobs, rate_limit) = (app.jobs.clone(), app.rate_limit.clone());
    let (stopping, mut has_stopped) = tokio::sync::oneshot::channel();
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("stopping");
        jobs.stop();
        let _ = stopping.send(());
    });
    let forgetting = async {
        loop {
            tokio::time::sleep(FORGET).await;
            rate_limit.forget();
        }
    };
    let out_of_patience = async {
        let _ = (&mut has_stopped).await;
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = out_of_patience => Ok(()),
        () = forgetting => Ok(()),
    }
}
