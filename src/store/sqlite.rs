//! The store on SQLite: write-ahead log, full synchronisation, one writer with group commit and readers apart.
//!
//! A write transaction begins immediate, because a deferred one that upgrades fails on a stale snapshot whatever the busy
//! timeout. An in-memory database lives in a single connection that is never recycled. Several processes may share a
//! file; each hears of its own changes at once and of the others' when it next looks. One that starts alone takes over the
//! jobs of those that died before it.

use super::group_commit::Writer;
use super::operations::Work;
use super::presence::Presence;
use super::statements::Connection;
use super::{Change, Store, StoreError, changes};
use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// The first release without the write-ahead log's reset corruption.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// A store in one SQLite database.
pub struct SqliteStore {
    writer: Writer,
    writing: SqlitePool,
    reading: SqlitePool,
    changes: broadcast::Sender<Change>,
    /// Held for as long as the store lives.
    _presence: Option<Presence>,
}

impl SqliteStore {
    /// Opens, creates and migrates the database of a `sqlite:` URL.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|e| StoreError::Url {
                url: url.to_owned(),
                detail: e.to_string(),
            })?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let is_in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let presence = if is_in_memory {
            None
        } else {
            Some(Presence::look(options.get_filename())?)
        };
        let writing = single_connection().connect_with(options.clone()).await?;
        check_version(&writing).await?;
        let migrated = MIGRATIONS.run(&writing).await;
        migrated.map_err(|error| StoreError::of_migration(error, &MIGRATIONS))?;
        if let Some(presence) = presence.as_ref().filter(|presence| presence.is_alone()) {
            forget_the_dead(&writing).await?;
            presence.share()?;
        }
        let reading = if is_in_memory {
            writing.clone()
        } else {
            SqlitePoolOptions::new()
                .max_connections(READERS)
                .connect_with(options.read_only(true))
                .await?
        };
        let changes = changes::channel();
        Ok(Self {
            writer: Writer::start(writing.clone(), changes.clone()),
            writing,
            reading,
            changes,
            _presence: presence,
        })
    }
}

/// A pool of one connection that outlives any idle time, as an in-memory database needs and a single writer wants.
fn single_connection() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Whoever starts alone knows that all who held jobs are dead, and ends their leases at once.
async fn forget_the_dead(pool: &SqlitePool) -> Result<(), StoreError> {
    for statement in [
        "UPDATE jobs SET lease_until = 0 WHERE state = 'running'",
        "DELETE FROM workers",
    ] {
        sqlx::query(statement).execute(pool).await?;
    }
    Ok(())
}

async fn check_version(pool: &SqlitePool) -> Result<(), StoreError> {
    let found: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(pool)
        .await?;
    let mut parts = found.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE {
        return Err(StoreError::OldSqlite { found });
    }
    Ok(())
}

#[async_trait]
impl Store for SqliteStore {
    async fn connection(&self) -> Result<Box<dyn Connection>, StoreError> {
        Ok(Box::new(self.reading.acquire().await?))
    }

    async fn transact(&self, work: Arc<dyn Work>) -> Result<(), StoreError> {
        self.writer.write(work).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    async fn close(&self) {
        self.reading.close().await;
        self.writing.close().await;
    }
}
