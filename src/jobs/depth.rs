//! How many jobs wait, known well enough to refuse more: counted a few times a second, and what was accepted here since.

use crate::store::Store;
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

    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Room for one more job, given back unless it is taken; nothing where the queue is full.
    pub async fn claim(&self) -> Option<Place<'_>> {
        self.refresh().await;
        let had = self.waiting.fetch_add(1, Ordering::SeqCst);
        let place = Place { depth: Some(self) };
        (had < self.limit).then_some(place)
    }

    /// Counts again when it is time. While one caller counts, the others go by the old count; so do all when the database
    /// does not answer, which they will hear of anyway.
    async fn refresh(&self) {
        let Ok(mut counted_at) = self.counted_at.try_lock() else {
            return;
        };
        if counted_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        *counted_at = Some(Instant::now());
        if let Ok(load) = self.store.load().await {
            let queued = u32::try_from(load.queued).unwrap_or(u32::MAX / 2);
            self.waiting.store(queued, Ordering::SeqCst);
        }
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
