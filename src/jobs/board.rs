//! How far the jobs are that this process runs, to the moment; other processes learn it from the store.

use crate::api::JobProgress;
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

    /// The last progress of a job that runs here.
    #[must_use]
    pub fn progress(&self, job: &str) -> Option<JobProgress> {
        self.watch(job).and_then(|running| running.borrow().clone())
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
