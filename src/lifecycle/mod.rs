//! What a job may become: pure functions from one [`Status`] to the next.
//!
//! A worker claims a queued job and holds it by a lease that it renews. Every change of state raises the job's epoch; the
//! epoch of the claim is the worker's proof that the job is still its own, so a worker that lost its lease, however late it
//! wakes up, changes nothing. Attempts are counted when claimed: a job that kills its process is given up after
//! [`Policy::attempts`]. The store applies these functions inside its transactions, with the database's clock; the
//! model checker (`tests/engine/lifecycle.rs`) applies the same ones in every order.

mod routing;

pub use routing::{DeviceKind, Work, takes};

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Milliseconds since the Unix epoch, by the database's clock.
pub type Millis = i64;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Canceled,
}

impl State {
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
    ];

    /// Whether the job has ended: nothing changes it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("unknown job state `{text}`"))
    }
}

/// The part of a job that the queue decides about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    pub state: State,
    /// Raised by every change of state; while running, the holder's proof.
    pub epoch: i64,
    /// Times the job was claimed, less those that were released.
    pub attempts: i64,
    /// Not to be claimed before: the persisted backoff.
    pub run_after: Millis,
    /// Who runs the job.
    pub worker: Option<String>,
    /// When the holder is taken for dead; present while running.
    pub lease_until: Option<Millis>,
    /// Whether the holder should give up.
    pub cancel_requested: bool,
}

/// How patient the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a claim or a beat holds a job, in milliseconds.
    pub lease: Millis,
    /// Claims that may end without a result before the job is given up.
    pub attempts: i64,
    /// Pause before the second claim; doubles with every further one. Milliseconds.
    pub backoff: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease: 30_000,
            attempts: 3,
            backoff: 1_000,
        }
    }
}

impl Policy {
    /// How long a lease goes without being renewed: beats may be missed before it runs out.
    #[must_use]
    pub fn renewal(&self) -> Duration {
        self.lease() / 3
    }

    /// How often leases that ran out are looked for.
    #[must_use]
    pub fn sweep(&self) -> Duration {
        self.lease() / 6
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease.unsigned_abs())
    }
}

/// Why a change was refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the job is not waiting to be claimed")]
    NotClaimable,
    #[error("the job is no longer held under this epoch")]
    NotHeld,
    #[error("the lease has not run out")]
    StillHeld,
    #[error("the job has ended: it {}", .0.as_str())]
    Ended(State),
}

/// How a holder ends a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    Succeeded,
    Failed,
    Canceled,
}

impl From<Ending> for State {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Succeeded => Self::Succeeded,
            Ending::Failed => Self::Failed,
            Ending::Canceled => Self::Canceled,
        }
    }
}

impl Status {
    /// A job that was just accepted.
    #[must_use]
    pub fn accepted(now: Millis) -> Self {
        Self {
            state: State::Queued,
            epoch: 0,
            attempts: 0,
            run_after: now,
            worker: None,
            lease_until: None,
            cancel_requested: false,
        }
    }

    /// A worker takes the job.
    pub fn claim(&self, worker: &str, now: Millis, policy: &Policy) -> Result<Self, Refusal> {
        if self.state != State::Queued || self.run_after > now {
            return Err(Refusal::NotClaimable);
        }
        Ok(Self {
            attempts: self.attempts + 1,
            worker: Some(worker.to_owned()),
            lease_until: Some(now + policy.lease),
            ..self.turned(State::Running)
        })
    }

    /// The holder is alive: the lease is renewed.
    pub fn beat(&self, epoch: i64, now: Millis, policy: &Policy) -> Result<Self, Refusal> {
        self.held(epoch)?;
        Ok(Self {
            lease_until: Some(now + policy.lease),
            ..self.clone()
        })
    }

    /// The holder has a result. A result that comes after a request to cancel still counts.
    pub fn finish(&self, epoch: i64, ending: Ending) -> Result<Self, Refusal> {
        self.held(epoch)?;
        Ok(self.turned(ending.into()))
    }

    /// The holder gives the job back unharmed, because its process stops: the attempt does not count.
    pub fn release(&self, epoch: i64, now: Millis) -> Result<Self, Refusal> {
        self.held(epoch)?;
        if self.cancel_requested {
            return Ok(self.turned(State::Canceled));
        }
        Ok(Self {
            attempts: self.attempts - 1,
            run_after: now,
            ..self.turned(State::Queued)
        })
    }

    /// The lease ran out: the job waits for another worker, or is given up.
    pub fn expire(&self, now: Millis, policy: &Policy) -> Result<Self, Refusal> {
        if self.state != State::Running || self.lease_until.is_some_and(|until| until > now) {
            return Err(Refusal::StillHeld);
        }
        if self.cancel_requested {
            return Ok(self.turned(State::Canceled));
        }
        if self.attempts >= policy.attempts {
            return Ok(self.turned(State::Failed));
        }
        let pause = policy.backoff << (self.attempts - 1).clamp(0, 16);
        Ok(Self {
            run_after: now + pause,
            ..self.turned(State::Queued)
        })
    }

    /// Somebody wants the job to end: at once where nobody runs it, otherwise as soon as its holder hears of it.
    pub fn cancel(&self) -> Result<Self, Refusal> {
        match self.state {
            State::Queued => Ok(self.turned(State::Canceled)),
            State::Running => Ok(Self {
                cancel_requested: true,
                ..self.clone()
            }),
            State::Canceled => Ok(self.clone()),
            State::Succeeded | State::Failed => Err(Refusal::Ended(self.state)),
        }
    }

    fn held(&self, epoch: i64) -> Result<(), Refusal> {
        if self.state == State::Running && self.epoch == epoch {
            Ok(())
        } else {
            Err(Refusal::NotHeld)
        }
    }

    /// Another state, held by nobody.
    fn turned(&self, state: State) -> Self {
        Self {
            state,
            epoch: self.epoch + 1,
            worker: None,
            lease_until: None,
            cancel_requested: false,
            ..self.clone()
        }
    }
}
