//! Registering models.

use super::{Operation, Scope};
use crate::store::{ModelRecord, StoreError};
use async_trait::async_trait;

/// Keeps a model under its id.
#[derive(Clone, Debug)]
pub struct PutModel {
    pub model: ModelRecord,
}

/// What storing a model did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Created,
    /// The same document was there already.
    Same,
    /// Another document has this id; nothing was changed.
    Conflict,
}

#[async_trait]
impl Operation for PutModel {
    type Answer = Stored;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Stored, StoreError> {
        if scope.sql.insert_model(&self.model).await? {
            return Ok(Stored::Created);
        }
        let kept = scope.sql.model(&self.model.id).await?;
        Ok(match kept {
            Some(kept) if kept.document == self.model.document => Stored::Same,
            _ => Stored::Conflict,
        })
    }
}
