//! Runs optimisations for the service: one per request digest, on its own threads, remembered in the store.
//!
//! A submitted request becomes a [`Flight`], shared by everyone who asks for the same digest meanwhile. A flight first
//! looks for a stored answer, so a flight that starts just after another landed finds its result; otherwise it computes on
//! the worker pool (never on tokio's threads) and stores the result before it lands. The last flights to land stay known by
//! their ids, since one that found an answer has no job of its own in the store. A panic fails the flight, not the
//! process. Flights live in memory: one that a killed process leaves unfinished must be asked for again.

mod flight;

pub use flight::{Flight, Landed, Phase};

use crate::api::Effective;
use crate::hso::Progress;
use crate::optimize::{OptimizeError, optimize};
use crate::store::{JobOutcome, JobRecord, ScheduleRecord, Store};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Landed flights that stay known by their ids.
const REMEMBERED: usize = 256;

/// Why work was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    #[error("{limit} requests are being worked on already; try again shortly")]
    Busy { limit: usize },
    #[error("the service is stopping")]
    Stopping,
    #[error("the computation failed unexpectedly; the log has details under this request's id")]
    Panicked,
}

/// The optimisation service. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    workers: rayon::ThreadPool,
    /// Flights by digest.
    flights: Mutex<HashMap<String, Arc<Flight>>>,
    /// The last flights to land, newest last.
    landed: Mutex<VecDeque<Arc<Flight>>>,
    /// Work accepted and not done, flights and others.
    pending: AtomicUsize,
    limit: usize,
    stopping: AtomicBool,
    /// Tells running work to give up.
    cancel: AtomicBool,
}

/// What a submission became.
pub struct Submission {
    pub flight: Arc<Flight>,
    /// Whether the flight was under way already.
    pub deduplicated: bool,
}

impl Jobs {
    /// A service with `workers` computing threads that accepts at most `limit` pieces of work at a time.
    pub fn new(
        store: Arc<dyn Store>,
        workers: usize,
        limit: usize,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|i| format!("worker-{i}"))
            .build()?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                workers,
                flights: Mutex::new(HashMap::new()),
                landed: Mutex::new(VecDeque::new()),
                pending: AtomicUsize::new(0),
                limit,
                stopping: AtomicBool::new(false),
                cancel: AtomicBool::new(false),
            }),
        })
    }

    /// Joins or starts the flight of a request.
    pub fn submit(&self, effective: Effective) -> Result<Submission, JobsError> {
        let digest = effective.digest();
        let mut flights = self.flights();
        if let Some(flight) = flights.get(digest.as_str()) {
            return Ok(Submission {
                flight: flight.clone(),
                deduplicated: true,
            });
        }
        let slot = self.claim()?;
        let flight = Arc::new(Flight::new(&digest, &effective));
        flights.insert(digest.to_string(), flight.clone());
        drop(flights);
        let (jobs, under_way) = (self.clone(), flight.clone());
        tokio::spawn(async move {
            let landed = jobs.fly(&under_way, effective).await;
            under_way.land(landed);
            jobs.remember(under_way.clone());
            jobs.flights().remove(&under_way.digest);
            drop(slot);
        });
        Ok(Submission {
            flight,
            deduplicated: false,
        })
    }

    /// The flight with a job's id, while it is under way or landed lately.
    #[must_use]
    pub fn flight(&self, id: &str) -> Option<Arc<Flight>> {
        let under_way = self.flights().values().find(|f| f.id == id).cloned();
        under_way.or_else(|| self.landed().iter().find(|f| f.id == id).cloned())
    }

    /// Runs other CPU work on the worker threads. The work should look at the flag and give up when it is set.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let _slot = self.claim()?;
        self.on_workers(work).await
    }

    /// Stops taking work, waits up to `patience` for what runs, then tells it to give up.
    pub async fn stop(&self, patience: Duration) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + patience;
        while self.inner.pending.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.inner.cancel.store(true, Ordering::SeqCst);
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        self.inner
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn landed(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Flight>>> {
        self.inner
            .landed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, flight: Arc<Flight>) {
        let mut landed = self.landed();
        if landed.len() == REMEMBERED {
            landed.pop_front();
        }
        landed.push_back(flight);
    }

    fn claim(&self) -> Result<Slot, JobsError> {
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err(JobsError::Stopping);
        }
        let slot = Slot(self.inner.clone());
        let before = self.inner.pending.fetch_add(1, Ordering::SeqCst);
        if before >= self.inner.limit {
            return Err(JobsError::Busy {
                limit: self.inner.limit,
            });
        }
        Ok(slot)
    }

    async fn fly(&self, flight: &Arc<Flight>, effective: Effective) -> Landed {
        match self.inner.store.answer(&flight.digest).await {
            Ok(Some(job)) => return Landed { job, cached: true },
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the store did not answer");
                return flight.failed("the database failed; the log has details");
            }
        }
        let job = self.compute(flight, effective).await;
        if let Err(error) = self.inner.store.finish(&job).await {
            tracing::error!(%error, job = flight.id, "the result could not be stored");
            return flight.failed("the result could not be stored; the log has details");
        }
        Landed { job, cached: false }
    }

    async fn compute(&self, flight: &Arc<Flight>, effective: Effective) -> JobRecord {
        metrics::counter!("fewstep_optimizations_total").increment(1);
        let started = Instant::now();
        let observed = flight.clone();
        let computed = self
            .on_workers(move |cancel| {
                observed.start();
                optimize(&effective, |progress: &Progress| {
                    observed.report(progress);
                    if cancel.load(Ordering::Relaxed) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })
            })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("fewstep_optimization_seconds").record(seconds);
        let outcome = match computed {
            Ok(Ok(document)) => {
                tracing::info!(job = flight.id, schedule = %document.id, seconds, "optimised");
                JobOutcome::Succeeded {
                    schedule: ScheduleRecord::from(&document),
                }
            }
            Ok(Err(OptimizeError::Stopped)) => JobOutcome::Canceled,
            Ok(Err(error)) => JobOutcome::Failed {
                error: error.to_string(),
            },
            Err(error) => JobOutcome::Failed {
                error: error.to_string(),
            },
        };
        flight.finished(outcome)
    }

    async fn on_workers<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let (give, take) = oneshot::channel();
        let inner = self.inner.clone();
        self.inner.workers.spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&inner.cancel)));
            let _ = give.send(done.map_err(|_| JobsError::Panicked));
        });
        take.await.unwrap_or(Err(JobsError::Panicked))
    }
}

/// One accepted piece of work; counts until dropped.
struct Slot(Arc<Inner>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    async fn service(limit: usize) -> Jobs {
        let store = store::open("sqlite::memory:").await.unwrap();
        Jobs::new(store, 1, limit).unwrap()
    }

    #[tokio::test]
    async fn a_panic_fails_the_work_and_not_the_workers() {
        let jobs = service(10).await;
        let failed = jobs.run(|_| panic!("on purpose")).await;
        assert_eq!(failed, Err::<(), _>(JobsError::Panicked));
        assert_eq!(jobs.run(|_| 7).await, Ok(7));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_over_the_limit_is_refused_and_what_runs_is_told_to_stop() {
        let jobs = service(1).await;
        let running = jobs.clone();
        let long = tokio::spawn(async move {
            running
                .run(|cancel| {
                    while !cancel.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                })
                .await
        });
        while jobs.inner.pending.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(jobs.run(|_| ()).await, Err(JobsError::Busy { limit: 1 }));
        jobs.stop(Duration::ZERO).await;
        assert_eq!(long.await.unwrap(), Ok(()));
        assert_eq!(jobs.run(|_| ()).await, Err(JobsError::Stopping));
    }
}
