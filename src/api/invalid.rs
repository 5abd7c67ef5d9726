//! What is wrong with a request, field by field, each named by its JSON pointer (RFC 6901).

use serde::Serialize;
use utoipa::ToSchema;

/// What is wrong with a request, field by field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|f| format!("{}: {}", f.pointer, f.detail)).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<InvalidField>);

/// One wrong field; `pointer` is its JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvalidField {
    pub pointer: String,
    pub detail: String,
}

impl InvalidField {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

impl From<InvalidField> for Invalid {
    fn from(field: InvalidField) -> Self {
        Self(vec![field])
    }
}
