//! The store on SQLite: write-ahead log, full synchronisation, one writer and readers apart.
//!
//! A write transaction begins immediate, because a deferred one that upgrades fails on a stale snapshot whatever the busy
//! timeout. An in-memory database lives in a single connection that is never recycled.

use super::{
    JobOutcome, JobRecord, ModelRecord, ScheduleFilter, ScheduleRecord, Store, StoreError, Stored,
};
use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};
use std::str::FromStr;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// The first release without the write-ahead log's reset corruption.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// A store in one SQLite database.
pub struct SqliteStore {
    writer: SqlitePool,
    reader: SqlitePool,
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
        let writer = single_connection().connect_with(options.clone()).await?;
        check_version(&writer).await?;
        migrate(&writer).await?;
        let reader = if url.contains(":memory:") {
            writer.clone()
        } else {
            SqlitePoolOptions::new()
                .max_connections(READERS)
                .connect_with(options.read_only(true))
                .await?
        };
        Ok(Self { writer, reader })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
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

async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    match MIGRATIONS.run(pool).await {
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::NewerSchema {
            found,
            known: MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0),
        }),
        other => Ok(other?),
    }
}

/// A job with its schedule where it has one; `$condition` selects.
macro_rules! select_job {
    ($condition:literal) => {
        concat!(
            "SELECT j.id AS job_id, j.digest, j.state, j.request, j.error, j.created_at AS job_created_at, \
             j.finished_at, s.id, s.model, s.solver, s.nfe, s.method, s.document, s.created_at \
             FROM jobs j LEFT JOIN schedules s ON s.id = j.schedule_id WHERE ",
            $condition
        )
    };
}

#[async_trait]
impl Store for SqliteStore {
    async fn finish(&self, job: &JobRecord) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let (state, schedule_id, error) = match &job.outcome {
            JobOutcome::Succeeded { schedule } => {
                sqlx::query(
                    "INSERT INTO schedules (id, model, solver, nfe, method, document, created_at) \
                     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(&schedule.id)
                .bind(&schedule.model)
                .bind(&schedule.solver)
                .bind(schedule.nfe)
                .bind(&schedule.method)
                .bind(&schedule.document)
                .bind(&schedule.created_at)
                .execute(&mut *transaction)
                .await?;
                ("succeeded", Some(&schedule.id), None)
            }
            JobOutcome::Failed { error } => ("failed", None, Some(error)),
            JobOutcome::Canceled => ("canceled", None, None),
        };
        sqlx::query(
            "INSERT INTO jobs (id, digest, state, request, schedule_id, error, created_at, finished_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&job.id)
        .bind(&job.digest)
        .bind(state)
        .bind(&job.request)
        .bind(schedule_id)
        .bind(error)
        .bind(&job.created_at)
        .bind(&job.finished_at)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn answer(&self, digest: &str) -> Result<Option<JobRecord>, StoreError> {
        let row = sqlx::query(select_job!("j.digest = ? AND j.state = 'succeeded'"))
            .bind(digest)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| job_of(&row)).transpose()
    }

    async fn job(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        let row = sqlx::query(select_job!("j.id = ?"))
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| job_of(&row)).transpose()
    }

    async fn schedule(&self, id: &str) -> Result<Option<ScheduleRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT id, model, solver, nfe, method, document, created_at FROM schedules WHERE id = ?",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await?;
        Ok(row.map(|row| schedule_of(&row)).transpose()?)
    }

    async fn schedules(
        &self,
        filter: &ScheduleFilter,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ScheduleRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, model, solver, nfe, method, document, created_at FROM schedules \
             WHERE id > ?1 AND (?2 IS NULL OR model = ?2) AND (?3 IS NULL OR solver = ?3) \
             AND (?4 IS NULL OR nfe = ?4) AND (?5 IS NULL OR method = ?5) ORDER BY id LIMIT ?6",
        )
        .bind(after)
        .bind(&filter.model)
        .bind(&filter.solver)
        .bind(filter.nfe)
        .bind(&filter.method)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(schedule_of).collect::<Result<_, _>>()?)
    }

    async fn put_model(&self, model: &ModelRecord) -> Result<Stored, StoreError> {
        let mut transaction = self.begin().await?;
        let inserted = sqlx::query(
            "INSERT INTO models (id, document, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&model.id)
        .bind(&model.document)
        .bind(&model.created_at)
        .execute(&mut *transaction)
        .await?;
        let kept: String = sqlx::query_scalar("SELECT document FROM models WHERE id = ?")
            .bind(&model.id)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(if inserted.rows_affected() == 1 {
            Stored::Created
        } else if kept == model.document {
            Stored::Same
        } else {
            Stored::Conflict
        })
    }

    async fn model(&self, id: &str) -> Result<Option<ModelRecord>, StoreError> {
        let row = sqlx::query("SELECT id, document, created_at FROM models WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.map(|row| model_of(&row)).transpose()?)
    }

    async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        let rows = sqlx::query("SELECT id, document, created_at FROM models ORDER BY id")
            .fetch_all(&self.reader)
            .await?;
        Ok(rows.iter().map(model_of).collect::<Result<_, _>>()?)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        Ok(())
    }

    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn schedule_of(row: &SqliteRow) -> Result<ScheduleRecord, sqlx::Error> {
    Ok(ScheduleRecord {
        id: row.try_get("id")?,
        model: row.try_get("model")?,
        solver: row.try_get("solver")?,
        nfe: row.try_get("nfe")?,
        method: row.try_get("method")?,
        document: row.try_get("document")?,
        created_at: row.try_get("created_at")?,
    })
}

fn job_of(row: &SqliteRow) -> Result<JobRecord, StoreError> {
    let state: String = row.try_get("state")?;
    let outcome = match state.as_str() {
        "succeeded" => JobOutcome::Succeeded {
            schedule: schedule_of(row)?,
        },
        "failed" => JobOutcome::Failed {
            error: row.try_get("error")?,
        },
        "canceled" => JobOutcome::Canceled,
        other => return Err(StoreError::Corrupt(format!("job state `{other}`"))),
    };
    Ok(JobRecord {
        id: row.try_get("job_id")?,
        digest: row.try_get("digest")?,
        outcome,
        request: row.try_get("request")?,
        created_at: row.try_get("job_created_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

fn model_of(row: &SqliteRow) -> Result<ModelRecord, sqlx::Error> {
    Ok(ModelRecord {
        id: row.try_get("id")?,
        document: row.try_get("document")?,
        created_at: row.try_get("created_at")?,
    })
}
