//! What is done to the store: each operation is a value that runs in one transaction, the same on every database.
//!
//! A transaction may run an operation again from the start (a batch that failed for another's sake, a conflict between
//! servers), so an operation keeps no state of its own. Decisions about jobs are [`crate::lifecycle`]'s; one that is refused
//! changes nothing, which is no failure of the store.

mod delivery;
mod enqueue;
mod housekeeping;
mod register;
mod work;

pub use delivery::{Attempt, SettleDelivery, TakeDelivery};
pub use enqueue::{Enqueue, Enqueued, IdempotencyKey, NameBatch};
pub use housekeeping::{Prune, Pruned, Sweep, Swept};
pub use register::{PutModel, Stored};
pub use work::{Beat, Cancel, Canceled, Claim, Finish, ForgetWorkers, Held, Release, SeeWorker};

use super::statements::Statements;
use super::{Change, Store, StoreError};
use crate::lifecycle::Millis;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long an operation may take. One that takes longer may still happen.
const PATIENCE: Duration = Duration::from_secs(15);

/// A transaction under way.
pub struct Scope<'a> {
    pub(super) sql: &'a mut dyn Statements,
    /// What to publish once it is on disk.
    pub(super) changes: Vec<Change>,
    now: Option<Millis>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(sql: &'a mut dyn Statements) -> Self {
        Self {
            sql,
            changes: Vec::new(),
            now: None,
        }
    }

    /// The transaction's moment, by the clock that the queue goes by.
    async fn now(&mut self) -> Result<Millis, StoreError> {
        match self.now {
            Some(now) => Ok(now),
            None => Ok(*self.now.insert(self.sql.now().await?)),
        }
    }

    fn announce(&mut self, change: Change) {
        self.changes.push(change);
    }
}

/// Something to do in one transaction.
#[async_trait]
pub trait Operation: Send + Sync + 'static {
    type Answer: Send + 'static;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Self::Answer, StoreError>;
}

impl dyn Store + '_ {
    /// Runs an operation; its effects are on disk when this returns.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Answer, StoreError> {
        let pending = Arc::new(Pending {
            operation,
            answer: Mutex::new(None),
        });
        let transaction = self.transact(pending.clone());
        tokio::time::timeout(PATIENCE, transaction)
            .await
            .map_err(|_| StoreError::Slow)??;
        let answer = pending.answer.lock().map_or_else(
            |poisoned| poisoned.into_inner().take(),
            |mut slot| slot.take(),
        );
        answer.ok_or(StoreError::Closed)
    }
}

/// An operation whose kind of answer the databases need not know.
#[async_trait]
pub trait Work: Send + Sync {
    async fn run(&self, scope: &mut Scope<'_>) -> Result<(), StoreError>;
}

struct Pending<O: Operation> {
    operation: O,
    answer: Mutex<Option<O::Answer>>,
}

#[async_trait]
impl<O: Operation> Work for Pending<O> {
    async fn run(&self, scope: &mut Scope<'_>) -> Result<(), StoreError> {
        let answer = self.operation.run(scope).await?;
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(())
    }
}

/// RFC 3339, UTC.
fn rfc_3339(moment: Millis) -> String {
    jiff::Timestamp::from_millisecond(moment)
        .unwrap_or_default()
        .to_string()
}
