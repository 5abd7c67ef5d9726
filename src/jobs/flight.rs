//! A request under way: its phase, watched by everyone who waits for it.

use crate::api::{Digest, Effective, ScheduleDocument};
use crate::hso::Progress;
use crate::store::{JobOutcome, JobRecord, ScheduleRecord};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A request between its submission and its result.
#[derive(Debug)]
pub struct Flight {
    /// Job id, a ULID.
    pub id: String,
    pub digest: String,
    /// The effective request as JSON.
    pub request: String,
    pub created_at: String,
    phase: watch::Sender<Phase>,
}

/// How far a flight is.
#[derive(Clone, Debug)]
pub enum Phase {
    Queued,
    Running(Option<Progress>),
    Landed(Arc<Landed>),
}

/// A flight's result.
#[derive(Clone, Debug)]
pub struct Landed {
    pub job: JobRecord,
    /// Whether the answer was stored before.
    pub cached: bool,
}

impl Flight {
    pub(super) fn new(digest: &Digest, effective: &Effective) -> Self {
        Self {
            id: ulid::Ulid::generate().to_string(),
            digest: digest.to_string(),
            request: serde_json::to_string(effective).expect("effective requests serialise"),
            created_at: now(),
            phase: watch::Sender::new(Phase::Queued),
        }
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits for the result, at most `patience`.
    pub async fn wait(&self, patience: Duration) -> Option<Arc<Landed>> {
        let mut phases = self.phase.subscribe();
        let landed = phases.wait_for(|phase| matches!(phase, Phase::Landed(_)));
        match tokio::time::timeout(patience, landed).await {
            Ok(Ok(phase)) => match &*phase {
                Phase::Landed(landed) => Some(landed.clone()),
                Phase::Queued | Phase::Running(_) => None,
            },
            Ok(Err(_)) | Err(_) => None,
        }
    }

    pub(super) fn start(&self) {
        self.phase.send_replace(Phase::Running(None));
    }

    pub(super) fn report(&self, progress: &Progress) {
        self.phase.send_replace(Phase::Running(Some(*progress)));
    }

    pub(super) fn land(&self, landed: Landed) {
        self.phase.send_replace(Phase::Landed(Arc::new(landed)));
    }

    /// The record of this flight with its outcome.
    pub(super) fn finished(&self, outcome: JobOutcome) -> JobRecord {
        JobRecord {
            id: self.id.clone(),
            digest: self.digest.clone(),
            outcome,
            request: self.request.clone(),
            created_at: self.created_at.clone(),
            finished_at: now(),
        }
    }

    pub(super) fn failed(&self, error: &str) -> Landed {
        Landed {
            job: self.finished(JobOutcome::Failed {
                error: error.to_owned(),
            }),
            cached: false,
        }
    }
}

impl From<&ScheduleDocument> for ScheduleRecord {
    fn from(document: &ScheduleDocument) -> Self {
        let wire = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            id: document.id.to_string(),
            model: document.model.clone(),
            solver: document.solver.name.as_str().to_owned(),
            nfe: document.nfe.get(),
            method: wire(serde_json::json!(document.method)),
            document: serde_json::to_string(document).expect("documents serialise"),
            created_at: document.provenance.created_at.clone(),
        }
    }
}

/// RFC 3339, UTC.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
