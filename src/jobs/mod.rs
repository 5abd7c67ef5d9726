//! The queue as the service uses it: jobs are accepted into the store, run by workers (here or elsewhere), and watched.
//!
//! [`Jobs`] submits, cancels, waits and follows; [`Workers`] claim jobs and compute them on threads of their own;
//! [`Keeper`] takes jobs back from workers that died and deletes what is old. They talk through the store alone, so that any
//! number of processes share one queue; what happens in the same process is heard of at once.

mod board;
mod compute;
mod depth;
mod document;
mod follow;
mod keeper;
mod worker;

pub use board::Board;
pub use compute::Panicked;
pub use document::document;
pub use follow::{Follower, JobEvent, Position};
pub use keeper::{Keeper, KeeperSettings};
pub use worker::{WorkerSettings, Workers};

use crate::api::Effective;
use crate::lifecycle::{Millis, Work};
use crate::store::operations::{Cancel, Canceled, Enqueue, Enqueued, IdempotencyKey, NameBatch};
use crate::store::{JobRecord, NewJob, Store, StoreError, heard};
use compute::Compute;
use depth::Depth;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// How often those who wait look for themselves, in case they were not told.
const LOOK: Duration = Duration::from_secs(1);
/// Other work that may run or wait at a time.
const SIDE_WORK: usize = 64;
/// How long a request waits for a job of the same digest to end that is being canceled, and how often.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
const CANCELED_MEANWHILE: usize = 3;
/// How long a client's key stands: a day.
const KEY_LIFETIME: Millis = 24 * 3_600_000;

/// Why the queue did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error("{limit} jobs wait already; try again shortly")]
    Busy { limit: u32 },
    #[error("a job of the same request is being canceled; try again shortly")]
    Canceling,
    #[error("the service is stopping")]
    Stopping,
    #[error("this Idempotency-Key was used with another request: use a new one")]
    KeyReused,
    #[error("the computation failed unexpectedly; the log has details under this request's id")]
    Panicked,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    board: Board,
    depth: Depth,
    side: Compute,
    side_slots: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

/// A request on its way into the queue.
pub struct Submission {
    pub effective: Effective,
    pub priority: i64,
    /// URL to call when the job has ended.
    pub webhook: Option<String>,
    pub key: Option<Key>,
}

/// A client's name for its request.
#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    /// The request's place in a batch; none for a request of its own, and for a batch as such.
    pub item: Option<usize>,
    /// Digest of what was sent.
    pub fingerprint: String,
}

impl From<Key> for IdempotencyKey {
    fn from(key: Key) -> Self {
        Self {
            key: key.name,
            item: key.item.map_or(Self::WHOLE, |item| item as i64),
            fingerprint: key.fingerprint,
            lifetime: KEY_LIFETIME,
        }
    }
}

/// What a submission became.
pub struct Submitted {
    pub job: JobRecord,
    /// Whether the job was there before.
    pub existing: bool,
}

impl Jobs {
    /// A queue in `store` that takes jobs while less than `limit` wait. `board` is where this process's workers report.
    pub fn new(
        store: Arc<dyn Store>,
        board: Board,
        limit: u32,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        Ok(Self {
            inner: Arc::new(Inner {
                depth: Depth::new(store.clone(), limit),
                store,
                board,
                side: Compute::new("side")?,
                side_slots: Arc::new(Semaphore::new(SIDE_WORK)),
                stop: watch::Sender::new(false),
            }),
        })
    }

    /// Accepts a request, or finds the job that answers it. When this returns the job is on disk. A job of the same request
    /// that is being canceled is waited for, and replaced.
    ///
    /// # Panics
    /// Never: effective requests serialise.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, JobsError> {
        let enqueue = submission.into_operation();
        for _ in 0..CANCELED_MEANWHILE {
            if *self.inner.stop.borrow() {
                return Err(JobsError::Stopping);
            }
            let place = self.inner.depth.claim().await;
            let enqueue = Enqueue {
                has_room: place.is_some(),
                ..enqueue.clone()
            };
            match self.inner.store.run(enqueue).await? {
                Enqueued::Accepted(job) => {
                    if let Some(place) = place {
                        place.take();
                    }
                    return Ok(Submitted {
                        job,
                        existing: false,
                    });
                }
                Enqueued::Existing(job) | Enqueued::Replayed(job) => {
                    return Ok(Submitted {
                        job,
                        existing: true,
                    });
                }
                Enqueued::Ending(job) => drop(self.wait(&job.id, CANCEL_PATIENCE).await?),
                Enqueued::KeyReused => return Err(JobsError::KeyReused),
                Enqueued::Full => {
                    let limit = self.inner.depth.limit();
                    return Err(JobsError::Busy { limit });
                }
            }
        }
        Err(JobsError::Canceling)
    }

    /// Lets a client's key stand for a batch; fails where it stands for another request.
    pub async fn name_batch(&self, key: Key) -> Result<(), JobsError> {
        if self.inner.store.run(NameBatch { key: key.into() }).await? {
            Ok(())
        } else {
            Err(JobsError::KeyReused)
        }
    }

    /// Waits for a job to end, at most `patience`; the job as it is then. Nothing where there is no such job.
    pub async fn wait(
        &self,
        id: &str,
        patience: Duration,
    ) -> Result<Option<JobRecord>, StoreError> {
        let mut changes = self.inner.store.changes();
        let mut stop = self.inner.stop.subscribe();
        let deadline = Instant::now() + patience;
        loop {
            let job = self.inner.store.job(id).await?;
            let has_ended = job.as_ref().is_none_or(|job| job.outcome.is_some());
            if has_ended || Instant::now() >= deadline || *stop.borrow() {
                return Ok(job);
            }
            let pause = LOOK.min(deadline - Instant::now());
            tokio::select! {
                () = heard(&mut changes, |change| change.job() == Some(id)) => {}
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Asks a job to end.
    pub async fn cancel(&self, id: &str) -> Result<Canceled, StoreError> {
        let job = id.to_owned();
        self.inner.store.run(Cancel { job }).await
    }

    /// A job's events from now on, or those after `last` for a client that was there before.
    #[must_use]
    pub fn follow(&self, id: &str, last: Option<Position>) -> Follower {
        let inner = &self.inner;
        Follower::new(
            inner.store.clone(),
            inner.board.clone(),
            inner.stop.subscribe(),
            id,
            last,
        )
    }

    /// Where this process's workers report.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.inner.board
    }

    /// Runs other CPU work off tokio's threads. The work gives up when its flag is set: when nobody waits for it any more, or
    /// the service stops.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let mut stop = self.inner.stop.subscribe();
        if *stop.borrow() {
            return Err(JobsError::Stopping);
        }
        let slot = self.inner.side_slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| JobsError::Busy {
            limit: SIDE_WORK as u32,
        })?;
        let waited_for = GiveUpOnDrop::default();
        let give_up = waited_for.0.clone();
        let done = self.inner.side.spawn(move || {
            let done = work(&give_up);
            drop(slot);
            done
        });
        tokio::select! {
            done = done => done.map_err(|Panicked| JobsError::Panicked),
            _ = stop.wait_for(|stop| *stop) => Err(JobsError::Stopping),
        }
    }

    /// Takes no more work and ends all waiting, so that connections can close.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }
}

/// Tells work to give up once nobody waits for it.
#[derive(Default)]
struct GiveUpOnDrop(Arc<AtomicBool>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Submission {
    fn into_operation(self) -> Enqueue {
        let effective = &self.effective;
        let id = || ulid::Ulid::generate().to_string();
        Enqueue {
            job: NewJob {
                id: id(),
                digest: effective.digest().to_string(),
                model: effective.model.clone(),
                solver: effective.solver.name.as_str().to_owned(),
                nfe: effective.nfe.get(),
                request: serde_json::to_string(effective).expect("effective requests serialise"),
                work: if effective.calibrate.is_some() {
                    Work::Calibration
                } else {
                    Work::Proxy
                },
                priority: self.priority,
                created_at: jiff::Timestamp::now().to_string(),
            },
            key: self.key.map(IdempotencyKey::from),
            webhook: self.webhook.map(|url| (format!("msg_{}", id()), url)),
            has_room: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    async fn queue() -> Jobs {
        let store = store::open("sqlite::memory:").await.unwrap();
        Jobs::new(store, Board::default(), 10).unwrap()
    }

    #[tokio::test]
    async fn a_panic_fails_the_work_and_not_the_threads() {
        let jobs = queue().await;
        let failed = jobs.run(|_| panic!("on purpose")).await;
        assert!(matches!(failed, Err::<(), _>(JobsError::Panicked)));
        assert_eq!(jobs.run(|_| 7).await.unwrap(), 7);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_runs_is_told_to_stop_and_nothing_starts_after() {
        let jobs = queue().await;
        let running = jobs.clone();
        let (started, mut has_started) = watch::channel(false);
        let (end, ended) = tokio::sync::oneshot::channel();
        let long = tokio::spawn(async move {
            let work = move |give_up: &AtomicBool| {
                started.send_replace(true);
                while !give_up.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                end.send(()).unwrap();
            };
            running.run(work).await
        });
        has_started.wait_for(|started| *started).await.unwrap();
        jobs.stop();
        let stopped = long.await.unwrap();
        assert!(matches!(stopped, Err(JobsError::Stopping)));
        ended.await.unwrap();
        assert!(matches!(jobs.run(|_| ()).await, Err(JobsError::Stopping)));
    }
}
