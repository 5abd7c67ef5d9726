//! `/v1/models`: the built-in families and the models that users registered.

use super::App;
use super::extract::{Json, Path};
use super::problem::Problem;
use crate::api::{ModelInfo, ModelList, ModelRequest};
use crate::denoiser::Description;
use crate::optimize::{noise_of, with_denoiser};
use crate::schedule::families;
use crate::store::ModelRecord;
use crate::store::operations::{PutModel, Stored};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Every known model: built in, registered, and under the models root.
#[utoipa::path(
    get,
    path = "/v1/models",
    responses((status = 200, description = "Built-in and registered models, and those under the models root", body = ModelList))
)]
pub async fn list(State(app): State<App>) -> Result<axum::Json<ModelList>, Problem> {
    let mut models: Vec<ModelInfo> = families::all().map(ModelInfo::of_family).collect();
    for record in app.store.models().await? {
        models.push(read(&record)?);
    }
    let denoisers = app.models.clone();
    let names = app.jobs.run(move |_| denoisers.list()).await??;
    for name in names {
        if let Some(model) = models.iter_mut().find(|model| model.id == name) {
            // A registered model stands before a folder of the same name.
            if model.built_in
                && let Some(description) = app.describe(&name).await?
            {
                *model = with_denoiser(model.clone(), &description);
            }
            continue;
        }
        match folder(&app, &name).await {
            Ok(model) => models.extend(model),
            Err(problem) => tracing::warn!(name, problem.detail, "a model folder is unusable"),
        }
    }
    Ok(axum::Json(ModelList { models }))
}

/// Register a model under a name.
#[utoipa::path(
    post,
    path = "/v1/models",
    request_body = ModelRequest,
    responses(
        (status = 201, description = "Registered", body = ModelInfo),
        (status = 200, description = "Registered before, with the same noise", body = ModelInfo),
        (status = 409, description = "The name stands for another model", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A wrong field", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn register(
    State(app): State<App>,
    Json(request): Json<ModelRequest>,
) -> Result<Response, Problem> {
    let model = ModelInfo::from_request(&request)?;
    if app.describe(&model.id).await?.is_some() {
        return Err(taken(&model.id));
    }
    match store(&app, &model).await? {
        Stored::Created => {
            let location = [(header::LOCATION, format!("/v1/models/{}", model.id))];
            Ok((StatusCode::CREATED, location, axum::Json(model)).into_response())
        }
        Stored::Same => Ok(axum::Json(model).into_response()),
        Stored::Conflict => Err(taken(&model.id)),
    }
}

fn taken(id: &str) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "model_exists",
        format!(
            "`{id}` is another model already, registered or under the models root: choose another id"
        ),
    )
}

/// One model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "Model id")),
    responses(
        (status = 200, description = "The model", body = ModelInfo),
        (status = 404, description = "No such model", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<axum::Json<ModelInfo>, Problem> {
    if let Some(family) = families::find(&id) {
        let model = ModelInfo::of_family(family);
        return Ok(axum::Json(match app.describe(&id).await? {
            Some(description) => with_denoiser(model, &description),
            None => model,
        }));
    }
    if let Some(model) = registered(&app, &id).await? {
        return Ok(axum::Json(model));
    }
    match folder(&app, &id).await? {
        Some(model) => Ok(axum::Json(model)),
        None => Err(Problem::not_found(format!(
            "there is no model `{id}`; GET /v1/models lists the known ones"
        ))),
    }
}

/// A registered model; nothing for built-in and unknown ones.
pub(super) async fn registered(app: &App, id: &str) -> Result<Option<ModelInfo>, Problem> {
    if families::find(id).is_some() {
        return Ok(None);
    }
    app.store.model(id).await?.as_ref().map(read).transpose()
}

/// A model under the models root.
async fn folder(app: &App, id: &str) -> Result<Option<ModelInfo>, Problem> {
    let Some(description) = app.describe(id).await? else {
        return Ok(None);
    };
    let noise = noise_of(&description)?;
    let model = noise.map(|noise| ModelInfo::of_folder(id, &noise, description.prediction));
    let model = model.transpose()?;
    Ok(model.map(|model| with_denoiser(model, &description)))
}

impl App {
    /// What a denoiser is; reads its files off tokio's threads.
    pub(super) async fn describe(&self, id: &str) -> Result<Option<Description>, Problem> {
        let (models, id) = (self.models.clone(), id.to_owned());
        Ok(self.jobs.run(move |_| models.describe(&id)).await??)
    }
}

/// Keeps an inline model, so that its name works in paths.
pub(super) async fn remember(app: &App, model: &ModelInfo) -> Result<(), Problem> {
    store(app, model).await.map(|_| ())
}

async fn store(app: &App, model: &ModelInfo) -> Result<Stored, Problem> {
    let model = ModelRecord {
        id: model.id.clone(),
        document: serde_json::to_string(model).unwrap_or_default(),
        created_at: jiff::Timestamp::now().to_string(),
    };
    Ok(app.store.run(PutModel { model }).await?)
}

fn read(record: &ModelRecord) -> Result<ModelInfo, Problem> {
    serde_json::from_str(&record.document).map_err(|error| {
        tracing::error!(%error, model = record.id, "a registered model is unreadable");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("the registered model `{}` is unreadable", record.id),
        )
    })
}
