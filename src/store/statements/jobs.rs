//! Jobs: waiting, running and ended.

use super::dialect::{Dialect, status};
use super::{Sql, statements};
use crate::lifecycle::{Millis, State, Status, Work};
use crate::store::records::{Failure, JobFilter, Load, NewJob};
use crate::store::rows::{ClaimableRow, HeldRow, JobLineRow, JobRow};
use async_trait::async_trait;

/// How a job has ended, as its row says it; all absent while it has not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended<'a> {
    pub schedule_id: Option<&'a str>,
    pub failure: Option<&'a Failure>,
    pub finished_at: Option<&'a str>,
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

/// Sorts after every id.
const AFTER_EVERY_ID: &str = "~";

/// Jobs that meet a condition on `$1`, a state, and `$2`, a model: newest first, those before the id `$3`.
macro_rules! list_jobs {
    ($condition:literal) => {
        concat!(
            "SELECT id, digest, state, model, solver, nfe, schedule_id, error_code, error, created_at, finished_at \
             FROM jobs WHERE ",
            $condition,
            " AND id < $3 ORDER BY id DESC LIMIT $4"
        )
    };
}

statements! {
    /// Statements on jobs.
    JobStatements {
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
            // A statement for every filter, so that each goes by its index.
            let sql = match (&filter.state, &filter.model) {
                (None, None) => list_jobs!("$1 = $1 AND $2 = $2"),
                (Some(_), None) => list_jobs!("state = $1 AND $2 = $2"),
                (None, Some(_)) => list_jobs!("$1 = $1 AND model = $2"),
                (Some(_), Some(_)) => list_jobs!("state = $1 AND model = $2"),
            };
            sqlx::query_as(sql)
                .bind(filter.state.map_or("", State::as_str))
                .bind(filter.model.as_deref().unwrap_or_default())
                .bind(before.unwrap_or(AFTER_EVERY_ID))
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

        /// A job's status, locked until the transaction ends.
        async fn held(&mut self, id: &str) -> Sql<Option<HeldRow>> {
            sqlx::query_as(Self::HELD).bind(id).fetch_optional(self).await
        }

        /// The next job to claim, by rank, locked; those that another transaction has locked are passed over.
        async fn claimable(&mut self, now: Millis, works: &[Work]) -> Sql<Option<ClaimableRow>> {
            sqlx::query_as(Self::CLAIMABLE)
                .bind(now)
                .bind(works.contains(&Work::Proxy))
                .bind(works.contains(&Work::Calibration))
                .fetch_optional(self)
                .await
        }

        /// A running job whose lease has run out, locked likewise.
        async fn expired(&mut self, now: Millis) -> Sql<Option<HeldRow>> {
            sqlx::query_as(Self::EXPIRED).bind(now).fetch_optional(self).await
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
    }
}
