//! How many jobs wait, known well enough to refuse more: counted a few times a second, and what was accepted here since.

use super::JobsError;
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long a count is good for.
const FRESH: Duration = Duration::from_millis(200);

pub(super) struct Depth {
    store: Arc<dyn Store>,
    limit: u32,
    counted_at: Mutex<Option<Instant>>,
    waiting: AtomicU32,
}

impl Depth {
    pub fn new(store: Arc<dyn Store>, limit: u32) -> Self {
        Self {
            store,
            limit,
            counted_at: Mutex::new(None),
            waiting: AtomicU32::new(0),
        }
    }

    /// Room for one more job, given back unless it is taken.
    pub async fn claim(&self) -> Result<Place<'_>, JobsError> {
        self.refresh().await?;
        let place = Place { depth: Some(self) };
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.limit {
            return Err(JobsError::Busy { limit: self.limit });
        }
        Ok(place)
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let mut counted_at = self.counted_at.lock().await;
        if counted_at.is_none_or(|at| at.elapsed() >= FRESH) {
            let load = self.store.load().await?;
            let queued = u32::try_from(load.queued).unwrap_or(u32::MAX / 2);
            self.waiting.store(queued, Ordering::SeqCst);
            *counted_at = Some(Instant::now());
        }
        Ok(())
    }
}

/// A place in the queue.
pub(super) struct Place<'a> {
    depth: Option<&'a Depth>,
}

impl Place<'_> {
    /// A job took it.
    pub fn take(mut self) {
        self.depth = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(depth) = self.depth {
            // A count in between may have forgotten the place already.
            let less = |waiting: u32| waiting.checked_sub(1);
            let _ = depth
                .waiting
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
    }
}
