//! Workers: each claims the next job its device takes, computes it on threads of its own, and holds it by beats.
//!
//! ```text
//! loop
//!     claim a job, or wait until one is queued
//!     compute it; meanwhile, once a second
//!         tell how far it is, or at least renew the lease in time
//!         hear whether it was canceled, or lost to another worker
//!     store the result (again and again where the database is out of reach or full)
//! ```
//!
//! When the process stops, a worker claims no more, lets a short job end, and gives a long one back unharmed.

use super::LOOK;
use super::board::Board;
use super::compute::{Compute, Panicked};
use crate::api::{ALGORITHM_REVISION, Effective, JobProgress, ScheduleDocument};
use crate::denoiser::Models;
use crate::lifecycle::{DeviceKind, Policy, State};
use crate::optimize::{OptimizeError, optimize};
use crate::store::operations::{Beat, Claim, Finish, Held, Release};
use crate::store::{Change, Claimed, Failure, JobOutcome, ScheduleRecord, Store, heard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

/// How often a worker tells how far its job is; more often where a lease asks for it.
const TELL: Duration = Duration::from_secs(1);
/// How long a job may still run when the process stops.
const GRACE: Duration = Duration::from_secs(2);
/// First and longest pause before a result is stored again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Names of the workers and what they compute with.
    pub workers: Vec<(String, DeviceKind)>,
    pub policy: Policy,
}

/// A process's workers.
pub struct Workers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Starts working.
    pub fn start(
        store: &Arc<dyn Store>,
        board: &Board,
        models: &Arc<Models>,
        settings: &WorkerSettings,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for (i, (name, device)) in settings.workers.iter().enumerate() {
            let worker = Worker {
                name: name.clone(),
                device: *device,
                policy: settings.policy,
                store: store.clone(),
                board: board.clone(),
                models: models.clone(),
                compute: Compute::new(&format!("worker-{i}"))?,
                stop: stop.subscribe(),
            };
            tasks.spawn(worker.work());
        }
        Ok(Self { tasks, stop })
    }

    /// Claims no more; returns when every job has ended or was given back.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Worker {
    name: String,
    device: DeviceKind,
    policy: Policy,
    store: Arc<dyn Store>,
    board: Board,
    models: Arc<Models>,
    compute: Compute,
    stop: watch::Receiver<bool>,
}

/// Why a computation was told to stop before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    Canceled,
    Stopping,
    Lost,
}

/// A computation's end.
type Computed = Result<Result<ScheduleDocument, OptimizeError>, Panicked>;

impl Worker {
    async fn work(self) {
        let mut changes = self.store.changes();
        let mut stop = self.stop.clone();
        while !*stop.borrow() {
            // Forgets what was heard before, but nothing from the claim on.
            changes = changes.resubscribe();
            let claim = Claim {
                worker: self.name.clone(),
                device: self.device,
                policy: self.policy,
            };
            match self.store.run(claim).await {
                Ok(Some(job)) => {
                    self.run(job, &mut changes).await;
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "no job could be claimed"),
            }
            tokio::select! {
                () = heard(&mut changes, |change| *change == Change::Queued) => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn run(&self, job: Claimed, changes: &mut broadcast::Receiver<Change>) {
        let effective = match read(&job) {
            Ok(effective) => effective,
            Err(failure) => return self.finish(&job, JobOutcome::Failed(failure)).await,
        };
        let started = Instant::now();
        let (computed, interruption) = self.compute(&job, effective, changes).await;
        let seconds = started.elapsed().as_secs_f64();
        metrics::counter!("fewstep_optimizations_total").increment(1);
        metrics::histogram!("fewstep_optimization_seconds").record(seconds);
        let outcome = match computed {
            Ok(Ok(document)) => JobOutcome::Succeeded {
                schedule: ScheduleRecord::from(&document),
            },
            Ok(Err(OptimizeError::Stopped)) => match interruption {
                Some(Interruption::Canceled) => JobOutcome::Canceled,
                Some(Interruption::Stopping) => return self.release(&job).await,
                Some(Interruption::Lost) | None => return,
            },
            Ok(Err(error)) => failed(error.code(), error.to_string()),
            Err(Panicked) => failed(
                "panicked",
                "the computation failed unexpectedly; the worker's log has details".to_owned(),
            ),
        };
        self.finish(&job, outcome).await;
    }

    /// Computes a job and holds it meanwhile.
    async fn compute(
        &self,
        job: &Claimed,
        effective: Effective,
        changes: &mut broadcast::Receiver<Change>,
    ) -> (Computed, Option<Interruption>) {
        let halt = Arc::new(AtomicBool::new(false));
        let progress = watch::Sender::new(None);
        let _shown = self.board.show(&job.id, progress.subscribe());
        let mut told = progress.subscribe();
        let computing = self.compute.spawn({
            let (halt, models) = (halt.clone(), self.models.clone());
            move || {
                optimize(&effective, &models, &halt, &mut |now| {
                    progress.send_replace(Some(now.clone()));
                })
            }
        });
        tokio::pin!(computing);
        let stopping = out_of_grace(self.stop.clone());
        tokio::pin!(stopping);
        let mut interruption = None;
        let mut last_beat = Instant::now();
        loop {
            let heard = tokio::select! {
                computed = &mut computing => return (computed, interruption),
                () = canceled(&job.id, changes), if interruption.is_none() => Some(Interruption::Canceled),
                () = &mut stopping, if interruption.is_none() => Some(Interruption::Stopping),
                () = tokio::time::sleep(TELL.min(self.policy.renewal())) => self.beat(job, &mut told, &mut last_beat).await,
            };
            if heard.is_some() {
                interruption = interruption.or(heard);
                halt.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Tells how far the job is, or renews its lease when it is time; hears whether to give up.
    async fn beat(
        &self,
        job: &Claimed,
        told: &mut watch::Receiver<Option<JobProgress>>,
        last_beat: &mut Instant,
    ) -> Option<Interruption> {
        let is_news = told.has_changed().unwrap_or(false);
        if !is_news && last_beat.elapsed() < self.policy.renewal() {
            return None;
        }
        let progress = told.borrow_and_update().clone();
        let beat = Beat {
            job: job.id.clone(),
            epoch: job.epoch,
            progress: progress.and_then(|progress| serde_json::to_string(&progress).ok()),
            policy: self.policy,
        };
        match self.store.run(beat).await {
            Ok(held) => {
                *last_beat = Instant::now();
                match held {
                    Held::Yes => None,
                    Held::CancelRequested => Some(Interruption::Canceled),
                    Held::Lost => Some(Interruption::Lost),
                }
            }
            Err(error) => {
                tracing::warn!(%error, job = job.id, "the lease could not be renewed");
                None
            }
        }
    }

    /// Stores how a job ended, however long the database takes, unless the process stops meanwhile: then the lease runs out
    /// and the job is run again.
    async fn finish(&self, job: &Claimed, outcome: JobOutcome) {
        let state = State::from(outcome.ending()).as_str();
        let finish = Finish {
            job: job.id.clone(),
            epoch: job.epoch,
            outcome,
        };
        let mut pause = RETRY.0;
        let stopping = out_of_grace(self.stop.clone());
        tokio::pin!(stopping);
        loop {
            match self.store.run(finish.clone()).await {
                Ok(true) => {
                    tracing::info!(job = job.id, attempt = job.attempt, state, "job ended");
                    metrics::counter!("fewstep_jobs_total", "state" => state).increment(1);
                    return;
                }
                Ok(false) => {
                    tracing::warn!(job = job.id, "the job was another worker's by now");
                    return;
                }
                Err(error) => tracing::error!(%error, job = job.id, "the result is not stored yet"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (2 * pause).min(RETRY.1),
                () = &mut stopping => return,
            }
        }
    }

    async fn release(&self, job: &Claimed) {
        let release = Release {
            job: job.id.clone(),
            epoch: job.epoch,
        };
        match self.store.run(release).await {
            Ok(()) => tracing::info!(job = job.id, "given back"),
            Err(error) => tracing::error!(%error, job = job.id, "the job could not be given back"),
        }
    }
}

/// The request of a job, as it was accepted.
fn read(job: &Claimed) -> Result<Effective, Failure> {
    let failure = |detail: String| Failure {
        code: "unreadable".to_owned(),
        detail,
    };
    let effective: Effective =
        serde_json::from_str(&job.request).map_err(|error| failure(error.to_string()))?;
    if effective.algorithm_revision != ALGORITHM_REVISION
        || effective.digest().as_str() != job.digest
    {
        return Err(failure(
            "it was accepted by another version of fewstep; POST the request again".to_owned(),
        ));
    }
    Ok(effective)
}

fn failed(code: &str, detail: String) -> JobOutcome {
    JobOutcome::Failed(Failure {
        code: code.to_owned(),
        detail,
    })
}

/// Resolves when the job is to be canceled. One that is missed is heard of at the next beat.
async fn canceled(id: &str, changes: &mut broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(Change::CancelRequested(job)) if job == id => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Resolves when the process has been stopping for long enough.
async fn out_of_grace(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(GRACE).await;
}
