//! How far the jobs are that this process runs, to the moment; other processes learn it from the store.

use crate::api::JobProgress;
use crate::lifecycle::State;
use crate::store::JobRecord;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Progress by job id. Cheap to clone.
#[derive(Clone, Default)]
pub struct Board {
    running: Arc<Mutex<HashMap<String, Running>>>,
}

type Running = watch::Receiver<Option<JobProgress>>;

impl Board {
    /// Follows the progress of a job that runs here.
    #[must_use]
    pub fn watch(&self, job: &str) -> Option<Running> {
        self.lock().get(job).cloned()
    }

    /// How far a running job is: to the moment where it runs here, else as its worker last told.
    #[must_use]
    pub fn progress(&self, job: &JobRecord) -> Option<JobProgress> {
        let here = || {
            self.watch(&job.id)
                .and_then(|running| running.borrow().clone())
        };
        let stored = || serde_json::from_str(job.progress.as_deref()?).ok();
        let progress = here().or_else(stored);
        progress.filter(|_| job.status.state == State::Running)
    }

    /// Shows a job until the entry is dropped.
    pub(super) fn show(&self, job: &str, progress: Running) -> Entry {
        self.lock().insert(job.to_owned(), progress);
        Entry {
            board: self.clone(),
            job: job.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job's place on the board.
pub(super) struct Entry {
    board: Board,
    job: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.board.lock().remove(&self.job);
    }
}
