//! The SQL: static statements that mean the same to both databases, which both number their parameters `$1`, `$2`, ...
//!
//! [`Statements`] is implemented once, by a macro, for the connections of either database; they differ in how a row is
//! locked for the rest of a transaction (SQLite's writer is alone anyway) and in whose clock counts. No decision is made
//! here: that is `operations`' part.

use super::records::{
    Delivery, Failure, JobFilter, Load, ModelRecord, NewJob, ScheduleFilter, ScheduleRecord,
};
use super::rows::{ClaimableRow, HeldRow, JobLineRow, JobRow};
use crate::lifecycle::{Millis, Status, Work};
use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection};

type Sql<T> = Result<T, sqlx::Error>;

/// How a job has ended, as its row says it; all absent while it has not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended<'a> {
    pub schedule_id: Option<&'a str>,
    pub failure: Option<&'a Failure>,
    pub finished_at: Option<&'a str>,
}

/// A webhook's row.
#[derive(Clone, Copy, Debug)]
pub struct WebhookState<'a> {
    /// `waiting`, `due`, `delivered` or `failed`.
    pub state: &'a str,
    pub attempts: i64,
    pub due_at: Millis,
    pub error: Option<&'a str>,
}

/// What a client's key stands for.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct IdempotencyKeyRow {
    pub fingerprint: String,
    pub job_id: String,
}

/// The columns of a status.
macro_rules! status {
    () => {
        "state, epoch, attempts, run_after, worker, lease_until, cancel_requested"
    };
}

/// A job with its schedule where it has one; `$condition` selects.
macro_rules! select_job {
    ($condition:literal) => {
        concat!(
            "SELECT j.id, j.digest, j.request, j.progress, j.error_code, j.error, j.created_at, j.finished_at, ",
            status!(),
            ", s.id AS schedule_id, s.model AS schedule_model, s.solver AS schedule_solver, s.nfe AS schedule_nfe, \
             s.method AS schedule_method, s.document AS schedule_document, s.created_at AS schedule_created_at \
             FROM jobs j LEFT JOIN schedules s ON s.id = j.schedule_id WHERE ",
            $condition
        )
    };
}

/// Declares the statements and implements them for both kinds of connection.
macro_rules! statements {
    (
        $(
            $(#[$doc:meta])*
            async fn $name:ident(&mut $self:ident $(, $argument:ident: $type:ty)*) -> $answer:ty
            $body:block
        )*
    ) => {
        #[async_trait]
        pub trait Statements: Send {
            $(
                $(#[$doc])*
                async fn $name(&mut $self $(, $argument: $type)*) -> $answer;
            )*

            /// The clock that the queue goes by.
            async fn now(&mut self) -> Sql<Millis>;

            /// A job's status, locked until the transaction ends.
            async fn held(&mut self, id: &str) -> Sql<Option<HeldRow>>;

            /// The next job to claim, by rank, locked; those that another transaction has locked are passed over.
            async fn claimable(&mut self, now: Millis, works: &[Work]) -> Sql<Option<ClaimableRow>>;

            /// A running job whose lease has run out, locked likewise.
            async fn expired(&mut self, now: Millis) -> Sql<Option<HeldRow>>;

            /// A webhook that is due, locked likewise.
            async fn due_webhook(&mut self, now: Millis) -> Sql<Option<Delivery>>;
        }

        dialect!(SqliteConnection, lock "", pass_over "", now self => {
            Ok(jiff::Timestamp::now().as_millisecond())
        }; $( $(#[$doc])* async fn $name(&mut $self $(, $argument: $type)*) -> $answer $body )*);

        dialect!(PgConnection, lock " FOR UPDATE", pass_over " FOR UPDATE SKIP LOCKED", now self => {
            sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(self)
                .await
        }; $( $(#[$doc])* async fn $name(&mut $self $(, $argument: $type)*) -> $answer $body )*);
    };
}

/// The statements on one kind of connection.
macro_rules! dialect {
    (
        $connection:ty, lock $lock:literal, pass_over $pass_over:literal, now $clock:ident => $now:block;
        $(
            $(#[$doc:meta])*
            async fn $name:ident(&mut $self:ident $(, $argument:ident: $type:ty)*) -> $answer:ty
            $body:block
        )*
    ) => {
        #[async_trait]
        impl Statements for $connection {
            $( async fn $name(&mut $self $(, $argument: $type)*) -> $answer $body )*

            async fn now(&mut $clock) -> Sql<Millis> $now

            async fn held(&mut self, id: &str) -> Sql<Option<HeldRow>> {
                sqlx::query_as(concat!("SELECT id, ", status!(), " FROM jobs WHERE id = $1", $lock))
                    .bind(id)
                    .fetch_optional(self)
                    .await
            }

            async fn claimable(&mut self, now: Millis, works: &[Work]) -> Sql<Option<ClaimableRow>> {
                sqlx::query_as(concat!(
                    "SELECT id, digest, request, created_at, ", status!(),
                    " FROM jobs WHERE state = 'queued' AND run_after <= $1 \
                     AND ((work = 'proxy' AND $2) OR (work = 'calibration' AND $3)) ORDER BY rank, id LIMIT 1",
                    $pass_over
                ))
                .bind(now)
                .bind(works.contains(&Work::Proxy))
                .bind(works.contains(&Work::Calibration))
                .fetch_optional(self)
                .await
            }

            async fn expired(&mut self, now: Millis) -> Sql<Option<HeldRow>> {
                sqlx::query_as(concat!(
                    "SELECT id, ", status!(),
                    " FROM jobs WHERE state = 'running' AND lease_until <= $1 ORDER BY lease_until LIMIT 1",
                    $pass_over
                ))
                .bind(now)
                .fetch_optional(self)
                .await
            }

            async fn due_webhook(&mut self, now: Millis) -> Sql<Option<Delivery>> {
                sqlx::query_as(concat!(
                    "SELECT id, job_id, url, attempts FROM webhooks WHERE state = 'due' AND due_at <= $1 \
                     ORDER BY due_at LIMIT 1",
                    $pass_over
                ))
                .bind(now)
                .fetch_optional(self)
                .await
            }
        }
    };
}

statements! {
    async fn ping(&mut self) -> Sql<()> {
        sqlx::query("SELECT 1").execute(self).await.map(|_| ())
    }

    async fn job(&mut self, id: &str) -> Sql<Option<JobRow>> {
        sqlx::query_as(select_job!("j.id = $1")).bind(id).fetch_optional(self).await
    }

    async fn job_of_digest(&mut self, digest: &str) -> Sql<Option<JobRow>> {
        sqlx::query_as(select_job!("j.digest = $1 AND j.state IN ('queued', 'running', 'succeeded')"))
            .bind(digest)
            .fetch_optional(self)
            .await
    }

    async fn jobs(&mut self, filter: &JobFilter, before: Option<&str>, limit: u32) -> Sql<Vec<JobLineRow>> {
        sqlx::query_as(
            "SELECT id, digest, state, model, solver, nfe, schedule_id, error_code, error, created_at, finished_at \
             FROM jobs WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR model = $3) \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(before)
        .bind(filter.state.map(crate::lifecycle::State::as_str))
        .bind(&filter.model)
        .bind(i64::from(limit))
        .fetch_all(self)
        .await
    }

    async fn load(&mut self) -> Sql<Load> {
        sqlx::query_as(
            "SELECT (SELECT count(*) FROM jobs WHERE state = 'queued') AS queued, \
             (SELECT count(*) FROM jobs WHERE state = 'running') AS running",
        )
        .fetch_one(self)
        .await
    }

    /// Whether the job is new: no job of its digest waits, runs or succeeded.
    async fn insert_job(&mut self, job: &NewJob, rank: Millis, status: &Status) -> Sql<bool> {
        let done = sqlx::query(
            "INSERT INTO jobs (id, digest, model, solver, nfe, request, work, rank, state, epoch, attempts, run_after, \
             cancel_requested, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, FALSE, $13) ON CONFLICT DO NOTHING",
        )
        .bind(&job.id)
        .bind(&job.digest)
        .bind(&job.model)
        .bind(&job.solver)
        .bind(i32::from(job.nfe))
        .bind(&job.request)
        .bind(job.work.as_str())
        .bind(rank)
        .bind(status.state.as_str())
        .bind(status.epoch)
        .bind(status.attempts)
        .bind(status.run_after)
        .bind(&job.created_at)
        .execute(self)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Writes what became of a job. Progress is forgotten when it does not run.
    async fn set_status(&mut self, id: &str, status: &Status, ended: Ended<'_>) -> Sql<()> {
        sqlx::query(
            "UPDATE jobs SET state = $2, epoch = $3, attempts = $4, run_after = $5, worker = $6, lease_until = $7, \
             cancel_requested = $8, schedule_id = $9, error_code = $10, error = $11, finished_at = $12, \
             progress = CASE WHEN $2 = 'running' THEN progress END WHERE id = $1",
        )
        .bind(id)
        .bind(status.state.as_str())
        .bind(status.epoch)
        .bind(status.attempts)
        .bind(status.run_after)
        .bind(&status.worker)
        .bind(status.lease_until)
        .bind(status.cancel_requested)
        .bind(ended.schedule_id)
        .bind(ended.failure.map(|failure| &failure.code))
        .bind(ended.failure.map(|failure| &failure.detail))
        .bind(ended.finished_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    async fn set_progress(&mut self, id: &str, progress: &str) -> Sql<()> {
        sqlx::query("UPDATE jobs SET progress = $2 WHERE id = $1")
            .bind(id)
            .bind(progress)
            .execute(self)
            .await
            .map(|_| ())
    }

    async fn insert_schedule(&mut self, schedule: &ScheduleRecord) -> Sql<()> {
        sqlx::query(
            "INSERT INTO schedules (id, model, solver, nfe, method, document, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(&schedule.id)
        .bind(&schedule.model)
        .bind(&schedule.solver)
        .bind(i32::from(schedule.nfe))
        .bind(&schedule.method)
        .bind(&schedule.document)
        .bind(&schedule.created_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    async fn schedule(&mut self, id: &str) -> Sql<Option<ScheduleRecord>> {
        sqlx::query_as(
            "SELECT id, model, solver, nfe, method, document, created_at FROM schedules WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(self)
        .await
    }

    async fn schedules(&mut self, filter: &ScheduleFilter, after: &str, limit: u32) -> Sql<Vec<ScheduleRecord>> {
        sqlx::query_as(
            "SELECT id, model, solver, nfe, method, document, created_at FROM schedules \
             WHERE id > $1 AND ($2 IS NULL OR model = $2) AND ($3 IS NULL OR solver = $3) \
             AND ($4 IS NULL OR nfe = $4) AND ($5 IS NULL OR method = $5) ORDER BY id LIMIT $6",
        )
        .bind(after)
        .bind(&filter.model)
        .bind(&filter.solver)
        .bind(filter.nfe.map(i32::from))
        .bind(&filter.method)
        .bind(i64::from(limit))
        .fetch_all(self)
        .await
    }

    /// Whether the id is new.
    async fn insert_model(&mut self, model: &ModelRecord) -> Sql<bool> {
        let done = sqlx::query(
            "INSERT INTO models (id, document, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(&model.id)
        .bind(&model.document)
        .bind(&model.created_at)
        .execute(self)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn model(&mut self, id: &str) -> Sql<Option<ModelRecord>> {
        sqlx::query_as("SELECT id, document, created_at FROM models WHERE id = $1")
            .bind(id)
            .fetch_optional(self)
            .await
    }

    async fn models(&mut self) -> Sql<Vec<ModelRecord>> {
        sqlx::query_as("SELECT id, document, created_at FROM models ORDER BY id")
            .fetch_all(self)
            .await
    }

    async fn see_worker(&mut self, id: &str, device: &str, until: Millis) -> Sql<()> {
        sqlx::query(
            "INSERT INTO workers (id, device, seen_until) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET device = excluded.device, seen_until = excluded.seen_until",
        )
        .bind(id)
        .bind(device)
        .bind(until)
        .execute(self)
        .await
        .map(|_| ())
    }

    async fn forget_worker(&mut self, id: &str) -> Sql<()> {
        sqlx::query("DELETE FROM workers WHERE id = $1").bind(id).execute(self).await.map(|_| ())
    }

    async fn live_devices(&mut self, now: Millis) -> Sql<Vec<String>> {
        sqlx::query_scalar("SELECT DISTINCT device FROM workers WHERE seen_until > $1")
            .bind(now)
            .fetch_all(self)
            .await
    }

    /// Whether the key was free; if so it stands for this job until `expires_at`.
    async fn reserve_key(
        &mut self,
        key: (&str, i64),
        fingerprint: &str,
        job_id: &str,
        now: Millis,
        expires_at: Millis
    ) -> Sql<bool> {
        let done = sqlx::query(
            "INSERT INTO idempotency_keys (key, item, fingerprint, job_id, expires_at) VALUES ($1, $2, $3, $4, $6) \
             ON CONFLICT (key, item) DO UPDATE SET fingerprint = excluded.fingerprint, job_id = excluded.job_id, \
             expires_at = excluded.expires_at WHERE idempotency_keys.expires_at <= $5",
        )
        .bind(key.0)
        .bind(key.1)
        .bind(fingerprint)
        .bind(job_id)
        .bind(now)
        .bind(expires_at)
        .execute(self)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn point_key(&mut self, key: (&str, i64), job_id: &str) -> Sql<()> {
        sqlx::query("UPDATE idempotency_keys SET job_id = $3 WHERE key = $1 AND item = $2")
            .bind(key.0)
            .bind(key.1)
            .bind(job_id)
            .execute(self)
            .await
            .map(|_| ())
    }

    async fn key(&mut self, key: (&str, i64)) -> Sql<Option<IdempotencyKeyRow>> {
        sqlx::query_as("SELECT fingerprint, job_id FROM idempotency_keys WHERE key = $1 AND item = $2")
            .bind(key.0)
            .bind(key.1)
            .fetch_optional(self)
            .await
    }

    async fn insert_webhook(&mut self, id: &str, job_id: &str, url: &str, webhook: WebhookState<'_>) -> Sql<()> {
        sqlx::query(
            "INSERT INTO webhooks (id, job_id, url, state, attempts, due_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(job_id)
        .bind(url)
        .bind(webhook.state)
        .bind(webhook.attempts)
        .bind(webhook.due_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// How many webhooks waited for this job's end and are due now.
    async fn arm_webhooks(&mut self, job_id: &str, now: Millis) -> Sql<u64> {
        let done = sqlx::query(
            "UPDATE webhooks SET state = 'due', due_at = $2 WHERE job_id = $1 AND state = 'waiting'",
        )
        .bind(job_id)
        .bind(now)
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn set_webhook(&mut self, id: &str, webhook: WebhookState<'_>) -> Sql<()> {
        sqlx::query("UPDATE webhooks SET state = $2, attempts = $3, due_at = $4, error = $5 WHERE id = $1")
            .bind(id)
            .bind(webhook.state)
            .bind(webhook.attempts)
            .bind(webhook.due_at)
            .bind(webhook.error)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Deletes jobs that failed or were canceled before a moment (RFC 3339), at most `limit`.
    async fn prune_jobs(&mut self, before: &str, limit: i64) -> Sql<u64> {
        let done = sqlx::query(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state IN ('failed', 'canceled') \
             AND finished_at < $1 LIMIT $2)",
        )
        .bind(before)
        .bind(limit)
        .execute(self)
        .await?;
        Ok(done.rows_affected())
    }

    async fn prune_webhooks(&mut self, before: Millis) -> Sql<u64> {
        let done = sqlx::query("DELETE FROM webhooks WHERE state IN ('delivered', 'failed') AND due_at < $1")
            .bind(before)
            .execute(self)
            .await?;
        Ok(done.rows_affected())
    }

    async fn prune_keys(&mut self, now: Millis) -> Sql<u64> {
        let done = sqlx::query("DELETE FROM idempotency_keys WHERE expires_at <= $1")
            .bind(now)
            .execute(self)
            .await?;
        Ok(done.rows_affected())
    }

    async fn prune_workers(&mut self, before: Millis) -> Sql<u64> {
        let done = sqlx::query("DELETE FROM workers WHERE seen_until <= $1")
            .bind(before)
            .execute(self)
            .await?;
        Ok(done.rows_affected())
    }
}

/// A pooled connection of either database.
pub trait Connection: Send {
    fn statements(&mut self) -> &mut dyn Statements;
}

impl Connection for PoolConnection<Sqlite> {
    fn statements(&mut self) -> &mut dyn Statements {
        &mut **self
    }
}

impl Connection for PoolConnection<Postgres> {
    fn statements(&mut self) -> &mut dyn Statements {
        &mut **self
    }
}
