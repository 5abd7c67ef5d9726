//! Why the store did not do as asked.

use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use std::path::PathBuf;

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
    #[error("the database has no room left: free some disk space")]
    Full,
    #[error("cannot lock {}: {error}", path.display())]
    Lock {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("the database did not answer in time")]
    Slow,
    #[error("another server changed the same rows at the same time, again and again")]
    Overtaken,
    #[error("no transaction could begin: {0}")]
    Unavailable(String),
    #[error("the store is closed")]
    Closed,
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
    #[error("the database could not be migrated: {0}")]
    Migration(MigrateError),
    #[error("the database holds an unreadable row: {0}")]
    Corrupt(String),
}

/// `SQLITE_FULL`, and PostgreSQL's `disk_full`.
const NO_ROOM: [&str; 2] = ["13", "53100"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        match code {
            Some(code) if NO_ROOM.contains(&code.as_ref()) => Self::Full,
            _ => Self::Database(error),
        }
    }
}

impl StoreError {
    /// Reads a failed migration; a database that knows more migrations than this version is a newer one.
    pub(super) fn of_migration(error: MigrateError, migrations: &Migrator) -> Self {
        match error {
            MigrateError::VersionMissing(found) => Self::NewerSchema {
                found,
                known: migrations.iter().map(|m| m.version).max().unwrap_or(0),
            },
            other => Self::Migration(other),
        }
    }
}
