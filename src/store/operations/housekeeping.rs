//! What any process does from time to time, whoever does it first: lost jobs back into the queue, old rows out.

use super::work::settle;
use super::{Operation, Scope, rfc_3339};
use crate::lifecycle::{Millis, Policy, State};
use crate::store::StoreError;
use async_trait::async_trait;

/// Jobs dealt with in one transaction.
const SWEEP: usize = 100;
const PRUNE: i64 = 1_000;
/// How long a webhook that was delivered or given up stays on record.
const WEBHOOK_RECORD: Millis = 7 * 24 * 3_600_000;
/// How long a worker that fell silent stays on record.
const WORKER_RECORD: Millis = 3_600_000;

/// Takes jobs from holders whose lease has run out.
#[derive(Clone, Debug)]
pub struct Sweep {
    pub policy: Policy,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs that wait for another worker.
    pub requeued: usize,
    /// Jobs given up after too many attempts.
    pub failed: usize,
    /// Jobs whose holder died before it heard that they were canceled.
    pub canceled: usize,
}

#[async_trait]
impl Operation for Sweep {
    type Answer = Swept;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Swept, StoreError> {
        let now = scope.now().await?;
        let mut swept = Swept::default();
        for _ in 0..SWEEP {
            let Some(row) = scope.sql.expired(now).await? else {
                break;
            };
            let job = row.id.clone();
            let Ok(status) = row.status()?.expire(now, &self.policy) else {
                break;
            };
            match status.state {
                State::Queued => swept.requeued += 1,
                State::Canceled => swept.canceled += 1,
                _ => swept.failed += 1,
            }
            settle(&job, &status, scope).await?;
        }
        Ok(swept)
    }
}

/// Deletes what nobody needs any more: jobs that failed or were canceled longer ago than `retention` (milliseconds),
/// expired keys, settled webhooks. Succeeded jobs are the cache and stay.
#[derive(Clone, Debug)]
pub struct Prune {
    pub retention: Millis,
}

/// Rows that were deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub jobs: u64,
    pub keys: u64,
    pub webhooks: u64,
    pub workers: u64,
    /// Whether there is more to delete.
    pub is_partial: bool,
}

#[async_trait]
impl Operation for Prune {
    type Answer = Pruned;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Pruned, StoreError> {
        let now = scope.now().await?;
        let before = rfc_3339(now - self.retention);
        let jobs = scope.sql.prune_jobs(&before, PRUNE).await?;
        Ok(Pruned {
            jobs,
            is_partial: jobs == PRUNE.unsigned_abs(),
            keys: scope.sql.prune_keys(now).await?,
            webhooks: scope.sql.prune_webhooks(now - WEBHOOK_RECORD).await?,
            workers: scope.sql.prune_workers(now - WORKER_RECORD).await?,
        })
    }
}
