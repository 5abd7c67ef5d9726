//! Accepting a job: it is on disk before anybody hears that it was accepted.

use super::{Operation, Scope};
use crate::lifecycle::{Millis, Status};
use crate::store::rows::JobRow;
use crate::store::statements::WebhookState;
use crate::store::{Change, JobRecord, NewJob, StoreError};
use async_trait::async_trait;

/// What a point of priority is worth in the queue. Waiting is worth as much, so nothing waits forever.
const HEAD_START: Millis = 60_000;

/// A client's name for a request, so that a repetition finds the first one's job.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub key: String,
    /// Place in a batch.
    pub item: i64,
    /// Digest of what was sent.
    pub fingerprint: String,
    /// How long the key stands, in milliseconds.
    pub lifetime: Millis,
}

/// Accepts a job, or finds the one that answers its request.
#[derive(Clone, Debug)]
pub struct Enqueue {
    pub job: NewJob,
    pub key: Option<IdempotencyKey>,
    /// Id and URL of a webhook to call when the job has ended.
    pub webhook: Option<(String, String)>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// A new job waits.
    Accepted(JobRecord),
    /// A job of the same digest waits, runs or succeeded.
    Existing(JobRecord),
    /// The key was used before, with the same request: its job, whatever became of it.
    Replayed(JobRecord),
    /// The key was used before, with another request.
    KeyReused,
}

#[async_trait]
impl Operation for Enqueue {
    type Answer = Enqueued;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Enqueued, StoreError> {
        let now = scope.sql.now().await?;
        if let Some(key) = &self.key
            && let Some(answer) = self.replayed(key, now, scope).await?
        {
            return Ok(answer);
        }
        let status = Status::accepted(now);
        let rank = now - self.job.priority * HEAD_START;
        let answer = loop {
            if scope.sql.insert_job(&self.job, rank, &status).await? {
                scope.announce(Change::Queued);
                break Enqueued::Accepted(self.accepted(status));
            }
            // Another server may end the job in between; then its digest is free again.
            if let Some(row) = scope.sql.job_of_digest(&self.job.digest).await? {
                break Enqueued::Existing(self.join(row, scope).await?);
            }
        };
        if let Some((id, url)) = &self.webhook {
            self.subscribe(id, url, &answer, now, scope).await?;
        }
        Ok(answer)
    }
}

impl Enqueue {
    /// The answer of a key that was used before; reserves it otherwise.
    async fn replayed(
        &self,
        key: &IdempotencyKey,
        now: Millis,
        scope: &mut Scope<'_>,
    ) -> Result<Option<Enqueued>, StoreError> {
        let name = (key.key.as_str(), key.item);
        let expires_at = now + key.lifetime;
        let is_free = scope
            .sql
            .reserve_key(name, &key.fingerprint, &self.job.id, now, expires_at)
            .await?;
        if is_free {
            return Ok(None);
        }
        let Some(known) = scope.sql.key(name).await? else {
            return Ok(None);
        };
        if known.fingerprint != key.fingerprint {
            return Ok(Some(Enqueued::KeyReused));
        }
        let Some(row) = scope.sql.job(&known.job_id).await? else {
            scope.sql.point_key(name, &self.job.id).await?;
            return Ok(None);
        };
        Ok(Some(Enqueued::Replayed(row.try_into()?)))
    }

    async fn join(&self, row: JobRow, scope: &mut Scope<'_>) -> Result<JobRecord, StoreError> {
        let record = JobRecord::try_from(row)?;
        if let Some(key) = &self.key {
            let name = (key.key.as_str(), key.item);
            scope.sql.point_key(name, &record.id).await?;
        }
        Ok(record)
    }

    /// Notes the webhook; a job that has ended already makes it due at once.
    async fn subscribe(
        &self,
        id: &str,
        url: &str,
        answer: &Enqueued,
        now: Millis,
        scope: &mut Scope<'_>,
    ) -> Result<(), StoreError> {
        let (Enqueued::Accepted(job) | Enqueued::Existing(job)) = answer else {
            return Ok(());
        };
        let state = if job.status.state.is_final() {
            scope.announce(Change::DeliveryDue);
            "due"
        } else {
            "waiting"
        };
        let webhook = WebhookState {
            state,
            attempts: 0,
            due_at: now,
            error: None,
        };
        Ok(scope.sql.insert_webhook(id, &job.id, url, webhook).await?)
    }

    fn accepted(&self, status: Status) -> JobRecord {
        JobRecord {
            id: self.job.id.clone(),
            digest: self.job.digest.clone(),
            request: self.job.request.clone(),
            status,
            progress: None,
            outcome: None,
            created_at: self.job.created_at.clone(),
            finished_at: None,
        }
    }
}
