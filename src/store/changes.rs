//! What listeners hear about after a transaction. Hints only: whoever listens also looks from time to time.

use tokio::sync::broadcast::{self, error::RecvError};

/// Changes that a slow listener may fall behind; one that does is told so and looks for itself.
const BACKLOG: usize = 1024;

/// Something that happened in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A job waits to be claimed.
    Queued,
    /// A running job should give up.
    CancelRequested(String),
    /// A running job reported progress, or went back to the queue.
    Moved(String),
    /// A job has ended.
    Ended(String),
    /// A webhook is due.
    DeliveryDue,
}

impl Change {
    /// The id of the job it is about.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::CancelRequested(id) | Self::Moved(id) | Self::Ended(id) => Some(id),
            Self::Queued | Self::DeliveryDue => None,
        }
    }

    /// As one word, or two with the job's id.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Queued => "queued".to_owned(),
            Self::CancelRequested(id) => format!("cancel {id}"),
            Self::Moved(id) => format!("moved {id}"),
            Self::Ended(id) => format!("ended {id}"),
            Self::DeliveryDue => "delivery".to_owned(),
        }
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None if text == "queued" => Some(Self::Queued),
            None if text == "delivery" => Some(Self::DeliveryDue),
            Some(("cancel", id)) => Some(Self::CancelRequested(id.to_owned())),
            Some(("moved", id)) => Some(Self::Moved(id.to_owned())),
            Some(("ended", id)) => Some(Self::Ended(id.to_owned())),
            _ => None,
        }
    }
}

/// Resolves when a wanted change is heard of, or may have been missed.
pub async fn heard(changes: &mut broadcast::Receiver<Change>, wanted: impl Fn(&Change) -> bool) {
    loop {
        match changes.recv().await {
            Ok(change) if !wanted(&change) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Where changes are published in this process.
pub(super) fn channel() -> broadcast::Sender<Change> {
    broadcast::Sender::new(BACKLOG)
}
