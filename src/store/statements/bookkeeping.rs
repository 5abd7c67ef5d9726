//! What goes with jobs: live workers, clients' keys, webhooks.

use super::dialect::Dialect;
use super::{Sql, statements};
use crate::lifecycle::Millis;
use crate::store::records::Delivery;
use async_trait::async_trait;

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

statements! {
    /// Statements on workers, keys and webhooks.
    BookkeepingStatements {
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

        async fn prune_workers(&mut self, before: Millis) -> Sql<u64> {
            let done = sqlx::query("DELETE FROM workers WHERE seen_until <= $1")
                .bind(before)
                .execute(self)
                .await?;
            Ok(done.rows_affected())
        }

        /// Whether the key was free, or stood for the same request; then it stands for this job until `expires_at`.
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
                 expires_at = excluded.expires_at \
                 WHERE idempotency_keys.expires_at <= $5 OR idempotency_keys.fingerprint = excluded.fingerprint",
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

        /// What a key stands for, unless it has expired.
        async fn key(&mut self, key: (&str, i64), now: Millis) -> Sql<Option<IdempotencyKeyRow>> {
            sqlx::query_as(
                "SELECT fingerprint, job_id FROM idempotency_keys WHERE key = $1 AND item = $2 AND expires_at > $3",
            )
                .bind(key.0)
                .bind(key.1)
                .bind(now)
                .fetch_optional(self)
                .await
        }

        async fn prune_keys(&mut self, now: Millis) -> Sql<u64> {
            let done = sqlx::query("DELETE FROM idempotency_keys WHERE expires_at <= $1")
                .bind(now)
                .execute(self)
                .await?;
            Ok(done.rows_affected())
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

        /// A webhook that is due, locked likewise.
        async fn due_webhook(&mut self, now: Millis) -> Sql<Option<Delivery>> {
            sqlx::query_as(Self::DUE_WEBHOOK).bind(now).fetch_optional(self).await
        }

        /// Writes what became of a call, unless there was a later one.
        async fn set_webhook(&mut self, id: &str, webhook: WebhookState<'_>) -> Sql<()> {
            sqlx::query("UPDATE webhooks SET state = $2, attempts = $3, due_at = $4, error = $5 WHERE id = $1 AND attempts <= $3")
                .bind(id)
                .bind(webhook.state)
                .bind(webhook.attempts)
                .bind(webhook.due_at)
                .bind(webhook.error)
                .execute(self)
                .await
                .map(|_| ())
        }

        async fn prune_webhooks(&mut self, before: Millis) -> Sql<u64> {
            let done = sqlx::query("DELETE FROM webhooks WHERE state IN ('delivered', 'failed') AND due_at < $1")
                .bind(before)
                .execute(self)
                .await?;
            Ok(done.rows_affected())
        }
    }
}
