//! Where schedules, finished jobs and registered models are kept. The only place that knows SQL.
//!
//! [`Store`] is one trait per backend, chosen by the URL's scheme through [`open`]. Documents are stored as the exact
//! bytes that are served. [`memo`] keeps rendered answers in the process, so that hot reads touch no database.

pub mod memo;
mod sqlite;

pub use sqlite::SqliteStore;

use async_trait::async_trait;
use std::sync::Arc;

/// A stored schedule. `document` is its JSON as served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRecord {
    pub id: String,
    pub model: String,
    pub solver: String,
    pub nfe: u16,
    pub method: String,
    pub document: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A finished job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    pub id: String,
    /// Digest of the effective request.
    pub digest: String,
    pub outcome: JobOutcome,
    /// The effective request as JSON.
    pub request: String,
    pub created_at: String,
    pub finished_at: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    Succeeded { schedule: ScheduleRecord },
    Failed { error: String },
    Canceled,
}

/// A registered model. `document` is its JSON as served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRecord {
    pub id: String,
    pub document: String,
    pub created_at: String,
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

/// Which schedules to list; absent fields admit everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleFilter {
    pub model: Option<String>,
    pub solver: Option<String>,
    pub nfe: Option<u16>,
    pub method: Option<String>,
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the database URL `{url}`: {detail}")]
    Url { url: String, detail: String },
    #[error(
        "the database has schema {found}, newer than the {known} this version knows: run the newer fewstep, or restore a \
         backup made before the upgrade"
    )]
    NewerSchema { found: i64, known: i64 },
    #[error("SQLite {found} corrupts write-ahead logs; 3.51.3 or newer is needed")]
    OldSqlite { found: String },
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database could not be migrated: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the database holds an unreadable row: {0}")]
    Corrupt(String),
}

/// A durable store. Every write is one transaction, on disk when the call returns.
#[async_trait]
pub trait Store: Send + Sync {
    /// Records a finished job and, where it succeeded, its schedule. A digest keeps its first answer: repeating changes
    /// nothing.
    async fn finish(&self, job: &JobRecord) -> Result<(), StoreError>;

    /// The succeeded job of a request's digest, with its schedule.
    async fn answer(&self, digest: &str) -> Result<Option<JobRecord>, StoreError>;

    async fn job(&self, id: &str) -> Result<Option<JobRecord>, StoreError>;

    async fn schedule(&self, id: &str) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Schedules in the order of their ids, those after `after`, at most `limit`.
    async fn schedules(
        &self,
        filter: &ScheduleFilter,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ScheduleRecord>, StoreError>;

    async fn put_model(&self, model: &ModelRecord) -> Result<Stored, StoreError>;

    async fn model(&self, id: &str) -> Result<Option<ModelRecord>, StoreError>;

    /// Every registered model in the order of their ids.
    async fn models(&self) -> Result<Vec<ModelRecord>, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Finishes what is under way and closes every connection.
    async fn close(&self);
}

/// Opens the store of a database URL, creating and migrating it as needed.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Arc::new(SqliteStore::open(url).await?)),
        _ => Err(StoreError::Url {
            url: url.to_owned(),
            detail: "use sqlite:PATH or sqlite::memory:".to_owned(),
        }),
    }
}
