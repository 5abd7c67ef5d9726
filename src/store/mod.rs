//! Where jobs, schedules and registered models are kept: the queue and the cache are one database. The only place that
//! knows SQL.
//!
//! [`Store`] is one narrow trait per database, chosen by the URL's scheme through [`open`]: how to read, how to run an
//! operation in a transaction, how to hear of changes. What is read ([`queries`]) and what is done ([`operations`]) is
//! written once, over the [`statements`] both databases share. Documents are stored as the exact bytes that are served.
//! [`memo`] keeps rendered answers in the process, so that hot reads touch no database.

mod changes;
mod error;
mod group_commit;
pub mod memo;
pub mod operations;
mod postgres;
mod presence;
mod queries;
mod records;
mod rows;
mod sqlite;
mod statements;

pub use changes::{Change, heard};
pub use error::StoreError;
pub use operations::Operation;
pub use postgres::PgStore;
pub use records::{
    Claimed, Delivery, Failure, JobFilter, JobLine, JobOutcome, JobRecord, Load, ModelRecord,
    NewJob, ScheduleFilter, ScheduleRecord,
};
pub use sqlite::SqliteStore;

use async_trait::async_trait;
use operations::Work;
use statements::Connection;
use std::sync::Arc;
use tokio::sync::broadcast;

/// A durable store.
#[async_trait]
pub trait Store: Send + Sync {
    /// A connection to read with.
    async fn connection(&self) -> Result<Box<dyn Connection>, StoreError>;

    /// Runs an operation in a transaction, which is on disk when the call returns. May run it again from the start where
    /// the database asks for it.
    async fn transact(&self, work: Arc<dyn Work>) -> Result<(), StoreError>;

    /// What happens from now on, in this process and, as far as the database tells, in others.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Finishes what is under way and closes every connection.
    async fn close(&self);
}

/// Opens the store of a database URL, creating and migrating it as needed.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Arc::new(SqliteStore::open(url).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(PgStore::open(url).await?)),
        other => Err(StoreError::Url {
            // No more than the scheme: the rest may hold a password.
            url: other.map_or_else(|| url.to_owned(), |(scheme, _)| format!("{scheme}:...")),
            detail: "use sqlite:PATH, sqlite::memory: or postgres://USER@HOST/DATABASE".to_owned(),
        }),
    }
}
