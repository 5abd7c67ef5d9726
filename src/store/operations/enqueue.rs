//! Accepting a job: it is on disk before anybody hears that it was accepted.

use super::work::status;
use super::{Operation, Scope};
use crate::lifecycle::{Millis, Status};
use crate::store::statements::WebhookState;
use crate::store::{Change, JobRecord, NewJob, StoreError};
use async_trait::async_trait;

/// What a point of priority is worth in the queue. Waiting is worth as much, so nothing waits forever.
const HEAD_START: Millis = 60_000;

/// A client's name for a request, so that a repetition finds the first one's job.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub key: String,
    /// Place in a batch; [`IdempotencyKey::WHOLE`] for a request of its own and for a batch as such.
    pub item: i64,
    /// Digest of what was sent.
    pub fingerprint: String,
    /// How long the key stands, in milliseconds.
    pub lifetime: Millis,
}

impl IdempotencyKey {
    pub const WHOLE: i64 = -1;
}

/// Accepts a job, or finds the one that answers its request.
#[derive(Clone, Debug)]
pub struct Enqueue {
    pub job: NewJob,
    pub key: Option<IdempotencyKey>,
    /// Id and URL of a webhook to call when the job has ended.
    pub webhook: Option<(String, String)>,
    /// Whether the queue takes a new job; one that exists is found all the same.
    pub has_room: bool,
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
    /// The key was used before, with another request. Nothing was written.
    KeyReused,
    /// A job of the same digest was asked to end and has yet to. Nothing was written.
    Ending(JobRecord),
    /// There is no room for a new job. Nothing was written.
    Full,
}

#[async_trait]
impl Operation for Enqueue {
    type Answer = Enqueued;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Enqueued, StoreError> {
        let now = scope.now().await?;
        if let Some(key) = &self.key
            && let Some(known) = scope.sql.key(key.name(), now).await?
        {
            if known.fingerprint != key.fingerprint {
                return Ok(Enqueued::KeyReused);
            }
            if let Some(row) = scope.sql.job(&known.job_id).await? {
                return Ok(Enqueued::Replayed(row.try_into()?));
            }
        }
        let answer = self.place(now, scope).await?;
        let (Enqueued::Accepted(job) | Enqueued::Existing(job)) = &answer else {
            return Ok(answer);
        };
        if let Some(key) = &self.key {
            key.reserve(&job.id, now, scope).await?;
        }
        if let Some((id, url)) = &self.webhook {
            subscribe(id, url, job, now, scope).await?;
        }
        Ok(answer)
    }
}

impl Enqueue {
    /// Puts the job into the queue, or finds the one of its digest.
    async fn place(&self, now: Millis, scope: &mut Scope<'_>) -> Result<Enqueued, StoreError> {
        let status = Status::accepted(now);
        let rank = now - self.job.priority * HEAD_START;
        if self.has_room && scope.sql.insert_job(&self.job, rank, &status).await? {
            scope.announce(Change::Queued);
            return Ok(Enqueued::Accepted(self.accepted(status)));
        }
        match scope.sql.job_of_digest(&self.job.digest).await? {
            Some(row) => {
                let job = JobRecord::try_from(row)?;
                Ok(if job.status.cancel_requested {
                    Enqueued::Ending(job)
                } else {
                    Enqueued::Existing(job)
                })
            }
            // Another server ended the job in between; its digest is free again.
            None if self.has_room => Err(StoreError::Overtaken),
            None => Ok(Enqueued::Full),
        }
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

/// Notes a webhook; a job that has ended already makes it due at once.
async fn subscribe(
    id: &str,
    url: &str,
    job: &JobRecord,
    now: Millis,
    scope: &mut Scope<'_>,
) -> Result<(), StoreError> {
    // Locked, so that the job cannot end unseen between this look and the note.
    let status = status(&job.id, scope).await?;
    let has_ended = status.is_none_or(|status| status.state.is_final());
    let webhook = WebhookState {
        state: if has_ended { "due" } else { "waiting" },
        attempts: 0,
        due_at: now,
        error: None,
    };
    scope.sql.insert_webhook(id, &job.id, url, webhook).await?;
    if has_ended {
        scope.announce(Change::DeliveryDue);
    }
    Ok(())
}

/// Names a batch of requests by a key, before any of them is accepted.
#[derive(Clone, Debug)]
pub struct NameBatch {
    pub key: IdempotencyKey,
}

#[async_trait]
impl Operation for NameBatch {
    /// Whether the key was free, or stands for the same batch.
    type Answer = bool;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<bool, StoreError> {
        let now = scope.now().await?;
        match scope.sql.key(self.key.name(), now).await? {
            Some(known) => Ok(known.fingerprint == self.key.fingerprint),
            None => self.key.reserve("", now, scope).await.map(|()| true),
        }
    }
}

impl IdempotencyKey {
    fn name(&self) -> (&str, i64) {
        (&self.key, self.item)
    }

    /// Lets the free key stand for a job.
    async fn reserve(
        &self,
        job: &str,
        now: Millis,
        scope: &mut Scope<'_>,
    ) -> Result<(), StoreError> {
        let expires_at = now + self.lifetime;
        let reserved = scope
            .sql
            .reserve_key(self.name(), &self.fingerprint, job, now, expires_at)
            .await?;
        if reserved {
            Ok(())
        } else {
            Err(StoreError::Overtaken)
        }
    }
}
