//! The outbox: calls that are due, taken by one process at a time and settled once they were answered.

use super::{Operation, Scope};
use crate::lifecycle::Millis;
use crate::store::statements::WebhookState;
use crate::store::{Delivery, StoreError};
use async_trait::async_trait;

/// Takes the next call that is due. Until `hold` (milliseconds) is over nobody else does; if its taker dies, somebody does
/// then.
#[derive(Clone, Debug)]
pub struct TakeDelivery {
    pub hold: Millis,
}

#[async_trait]
impl Operation for TakeDelivery {
    type Answer = Option<Delivery>;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Option<Delivery>, StoreError> {
        let now = scope.now().await?;
        let Some(mut delivery) = scope.sql.due_webhook(now).await? else {
            return Ok(None);
        };
        delivery.attempts += 1;
        let taken = WebhookState {
            state: "due",
            attempts: delivery.attempts,
            due_at: now + self.hold,
            error: None,
        };
        scope.sql.set_webhook(&delivery.id, taken).await?;
        Ok(Some(delivery))
    }
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// Try again after a pause (milliseconds).
    Again {
        pause: Millis,
        error: String,
    },
    /// Give it up.
    GivenUp {
        error: String,
    },
}

/// Writes down how a call went.
#[derive(Clone, Debug)]
pub struct SettleDelivery {
    pub delivery: Delivery,
    pub attempt: Attempt,
}

#[async_trait]
impl Operation for SettleDelivery {
    type Answer = ();

    async fn run(&self, scope: &mut Scope<'_>) -> Result<(), StoreError> {
        let now = scope.now().await?;
        let (state, pause, error) = match &self.attempt {
            Attempt::Delivered => ("delivered", 0, None),
            Attempt::Again { pause, error } => ("due", *pause, Some(error)),
            Attempt::GivenUp { error } => ("failed", 0, Some(error)),
        };
        let settled = WebhookState {
            state,
            attempts: self.delivery.attempts,
            due_at: now + pause,
            error: error.map(String::as_str),
        };
        Ok(scope.sql.set_webhook(&self.delivery.id, settled).await?)
    }
}
