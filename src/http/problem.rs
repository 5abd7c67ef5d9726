//! Errors as RFC 9457 problem documents.
//!
//! Handlers return a [`Problem`]; it travels as a response extension until the outermost layer writes it down with the
//! request's id, and turns every error that some layer answered without one into a problem too.

use crate::api::{Invalid, InvalidField};
use crate::denoiser::LoadError;
use crate::jobs::JobsError;
use crate::optimize::OptimizeError;
use crate::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which a client that met a full or stopping service may try again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// An error document, `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Stable URI of the kind of error.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// Stable name of the kind of error.
    pub code: &'static str,
    /// Wrong fields, where the request is at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<InvalidField>,
    /// Id of the request, also in the log and the `x-request-id` header; absent inside a batch.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Seconds after which to try again, sent as `Retry-After`.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            request_id: String::new(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS),
        }
    }

    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The problem of a status that was answered without one.
    #[must_use]
    pub(super) fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => (
                "not_found",
                "there is nothing here; /openapi.yaml lists the resources",
            ),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method_not_allowed",
                "this resource does not take that method; the Allow header lists those it takes",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is larger than 256 KiB"),
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
                ("timeout", "the request took too long and was given up")
            }
            StatusCode::INTERNAL_SERVER_ERROR => (
                "internal",
                "something failed unexpectedly; the log has details under this request's id",
            ),
            _ => ("request_refused", "the request was refused"),
        };
        Self::new(status, code, detail)
    }

    /// The same as a 404, for what a path rather than a body got wrong.
    #[must_use]
    pub(super) fn in_path(mut self) -> Self {
        if self.status() == StatusCode::UNPROCESSABLE_ENTITY {
            let errors = std::mem::take(&mut self.errors);
            return Self::not_found(self.detail).with_errors(errors);
        }
        self
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<InvalidField>) -> Self {
        self.errors = errors;
        self
    }

    #[must_use]
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = status.into_response();
        if let Some(seconds) = self.retry_after {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let detail = invalid.to_string();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
            .with_errors(invalid.0)
    }
}

impl From<InvalidField> for Problem {
    fn from(field: InvalidField) -> Self {
        Invalid::from(field).into()
    }
}

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Self {
        let (status, code) = match error {
            JobsError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "queue_full"),
            JobsError::Canceling => (StatusCode::SERVICE_UNAVAILABLE, "canceling"),
            JobsError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            JobsError::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            JobsError::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            JobsError::Store(error) => return error.into(),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<OptimizeError> for Problem {
    fn from(error: OptimizeError) -> Self {
        let (status, code) = match error {
            OptimizeError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            OptimizeError::Schedule(_) | OptimizeError::Noise(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unanswerable")
            }
            OptimizeError::Model(error) => return error.into(),
            OptimizeError::Search(_) | OptimizeError::Calibrate(_) | OptimizeError::Pictures(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        if matches!(error, LoadError::Io { .. }) {
            tracing::error!(%error, "a model cannot be read");
            return Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the model's files cannot be read; the log has details under this request's id",
            );
        }
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "model_unusable",
            error.to_string(),
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        if matches!(error, StoreError::Full) {
            return Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "database_full",
                "the service's disk is full; nothing was accepted. Known schedules are still served",
            );
        }
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database",
            "the database did not answer; the log has details under this request's id",
        )
    }
}
