//! `/v1/schedules`: stored schedules, by content id, by what they are for, and listed.

use super::App;
use super::extract::{Path, Query};
use super::page::Page;
use super::problem::Problem;
use crate::api::{
    CalibrateFields, InvalidField, OptimizeRequest, ScheduleDocument, ScheduleList,
    ScheduleSummary, SolverName, SolverRef,
};
use crate::plot;
use crate::schedule::families;
use crate::store::memo::Entry;
use crate::store::{JobOutcome, ScheduleFilter, ScheduleRecord};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const REVALIDATE: &str = "no-cache";

/// Which answer stands for a model, solver and NFE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The calibration with default settings on the model's present weights where there is one, else the proxy's schedule.
    #[default]
    Best,
    /// The search on the noise schedule alone.
    Proxy,
    /// The calibration with default settings on the model's present weights.
    Calibrated,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct KeyQuery {
    #[serde(default)]
    #[param(inline)]
    source: Source,
}

/// The schedule of the all-defaults request for a model, solver and NFE, calibrated where that was asked for.
#[utoipa::path(
    get,
    path = "/v1/schedules/{model}/{solver}/{nfe}",
    params(
        KeyQuery,
        ("model" = String, Path, description = "Model id", example = "sd-v2.1"),
        ("solver" = String, Path, description = "A solver's name", example = "unipc"),
        ("nfe" = u16, Path, description = "Denoiser evaluations", example = 5),
        ("If-None-Match" = Option<String>, Header, description = "Entity tag of a schedule you have"),
    ),
    responses(
        (status = 200, description = "The schedule; its entity tag is its id", body = ScheduleDocument),
        (status = 304, description = "You have it"),
        (status = 404, description = "Nobody asked for it yet, or there is no such model, solver or NFE", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn by_key(
    State(app): State<App>,
    Path((model, solver, nfe)): Path<(String, String, String)>,
    Query(query): Query<KeyQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = format!("key/{:?}/{model}/{solver}/{nfe}", query.source);
    if let Some(entry) = app.memo.get(&key) {
        metrics::counter!("fewstep_cache_hits_total", "source" => "memory").increment(1);
        return Ok(answer(&entry, REVALIDATE, &headers));
    }
    let proxy = default_request(&model, &solver, &nfe)?;
    let calibrated = OptimizeRequest {
        calibrate: Some(CalibrateFields::default()),
        ..proxy.clone()
    };
    let asked = match query.source {
        Source::Proxy => vec![proxy],
        Source::Calibrated => vec![calibrated],
        // Without a denoiser there is nothing to prefer, and `auto` has no proxy.
        Source::Best if app.describe(&model).await?.is_none() => vec![proxy],
        Source::Best if proxy.solver == SolverRef::Name(SolverName::Auto) => vec![calibrated],
        Source::Best => vec![calibrated, proxy],
    };
    let mut missing = None;
    for (i, request) in asked.iter().enumerate() {
        match app.default_answer(request).await {
            Ok(schedule) => {
                metrics::counter!("fewstep_cache_hits_total", "source" => "store").increment(1);
                let entry = entry_of(schedule);
                // A better answer may come yet, and weights under the models root may change.
                if i == 0 && families::find(&model).is_some() {
                    app.memo.put(key, entry.clone());
                }
                return Ok(answer(&entry, REVALIDATE, &headers));
            }
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => missing = Some(problem),
            Err(problem) => return Err(problem),
        }
    }
    Err(missing.unwrap_or_else(|| Problem::not_found("there is no such schedule")))
}

impl App {
    /// The stored answer to a default request, or how to ask for it.
    async fn default_answer(&self, request: &OptimizeRequest) -> Result<ScheduleRecord, Problem> {
        let effective = self.effective(request).await.map_err(Problem::in_path)?;
        let job = self
            .store
            .job_of_digest(effective.digest().as_str())
            .await?;
        if let Some(JobOutcome::Succeeded { schedule }) = job.and_then(|job| job.outcome) {
            return Ok(schedule);
        }
        let calibrate = if effective.calibrate.is_some() {
            ", \"calibrate\": {}"
        } else {
            ""
        };
        Err(Problem::not_found(format!(
            "this schedule has not been asked for yet: POST {{\"model\": \"{}\", \"solver\": \"{}\", \"nfe\": {}{calibrate}}} \
             to /v1/jobs",
            effective.model,
            effective.solver.name.as_str(),
            effective.nfe.get()
        )))
    }
}

fn default_request(model: &str, solver: &str, nfe: &str) -> Result<OptimizeRequest, Problem> {
    let wrong =
        |field: &str, detail: String| Problem::from(InvalidField::new(field, detail)).in_path();
    let solver = solver.parse().map_err(|detail| wrong("/solver", detail))?;
    let nfe = nfe.parse().map_err(|detail| wrong("/nfe", detail))?;
    Ok(OptimizeRequest::of(model, solver, nfe))
}

/// A schedule by its content id.
#[utoipa::path(
    get,
    path = "/v1/schedules/{id}",
    params(("id" = String, Path, description = "Schedule id")),
    responses(
        (status = 200, description = "The schedule, which never changes", body = ScheduleDocument),
        (status = 304, description = "You have it"),
        (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn by_id(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = format!("id/{id}");
    if let Some(entry) = app.memo.get(&key) {
        return Ok(answer(&entry, IMMUTABLE, &headers));
    }
    let Some(schedule) = app.store.schedule(&id).await? else {
        return Err(Problem::not_found(format!("there is no schedule `{id}`")));
    };
    let entry = entry_of(schedule);
    app.memo.put(key, entry.clone());
    Ok(answer(&entry, IMMUTABLE, &headers))
}

/// What a schedule does to pictures, beside the reference, the best rule and HSO.
#[utoipa::path(
    get,
    path = "/v1/schedules/{id}/pictures.svg",
    params(("id" = String, Path, description = "Schedule id")),
    responses(
        (status = 200, description = "The pictures, which never change", body = String, content_type = "image/svg+xml"),
        (status = 404, description = "No such schedule, or one that was calibrated without `pictures`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn pictures(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
    let schedule = app.store.schedule(&id).await?;
    let schedule = schedule.and_then(|schedule| serde_json::from_str(&schedule.document).ok());
    let Some(svg) = schedule.as_ref().and_then(plot::pictures) else {
        return Err(Problem::not_found(format!(
            "there are no pictures of a schedule `{id}`: calibrate with \"pictures\": 4 to have some"
        )));
    };
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, IMMUTABLE),
    ];
    Ok((headers, svg).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    model: Option<String>,
    solver: Option<String>,
    nfe: Option<u16>,
    /// hso, hso-constrained, published or calibrated.
    method: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Entries a page, 1 to 200; 50 unless given.
    limit: Option<u32>,
}

/// Stored schedules, in the order of their ids.
#[utoipa::path(
    get,
    path = "/v1/schedules",
    params(ListQuery),
    responses((status = 200, description = "A page of schedules", body = ScheduleList))
)]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<ScheduleList>, Problem> {
    let page = Page::of(query.limit);
    let filter = ScheduleFilter {
        model: query.model,
        solver: query.solver,
        nfe: query.nfe,
        method: query.method,
    };
    let after = query.cursor.unwrap_or_default();
    let records = app.store.schedules(&filter, &after, page.rows()).await?;
    let (records, next_cursor) = page.cut(records, |record| &record.id);
    Ok(axum::Json(ScheduleList {
        schedules: records.into_iter().map(summary).collect(),
        next_cursor,
    }))
}

fn summary(record: ScheduleRecord) -> ScheduleSummary {
    ScheduleSummary {
        href: format!("/v1/schedules/{}", record.id),
        id: record.id,
        model: record.model,
        solver: record.solver,
        nfe: record.nfe,
        method: record.method,
        created_at: record.created_at,
    }
}

fn entry_of(schedule: ScheduleRecord) -> Entry {
    Entry {
        schedule_id: Arc::from(schedule.id),
        body: Bytes::from(schedule.document),
    }
}

/// The schedule, or 304 to those who have it.
fn answer(entry: &Entry, caching: &'static str, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", entry.schedule_id);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|candidate| candidate.trim().trim_start_matches("W/"))
        .any(|candidate| candidate == tag || candidate == "*");
    let validators = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, caching.to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::OK, validators, content_type, entry.body.clone()).into_response()
}
