//! Housekeeping that every process does: says that its workers live, takes jobs from workers that do not, deletes what is
//! old, and counts the queue.

use crate::lifecycle::{DeviceKind, Millis, Policy};
use crate::store::operations::{ForgetWorkers, Prune, SeeWorker, Sweep, Swept};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

const PRUNE: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
pub struct KeeperSettings {
    pub policy: Policy,
    /// How long failed and canceled jobs are kept, in milliseconds.
    pub retention: Millis,
    /// This process's workers.
    pub workers: Vec<(String, DeviceKind)>,
}

/// The tasks of housekeeping.
pub struct Keeper {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    store: Arc<dyn Store>,
    workers: Vec<(String, DeviceKind)>,
}

impl Keeper {
    /// Keeps house in the background.
    #[must_use]
    pub fn start(store: &Arc<dyn Store>, settings: &KeeperSettings) -> Self {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let workers = settings.workers.clone();
        let chores = [
            (settings.policy.renewal(), Chore::Announce),
            (settings.policy.sweep(), Chore::Sweep),
            (PRUNE, Chore::Prune),
        ];
        for (every, chore) in chores {
            let (store, settings) = (store.clone(), settings.clone());
            tasks.spawn(repeat(every, stop.subscribe(), move || {
                let (store, settings) = (store.clone(), settings.clone());
                async move { chore.run(&*store, &settings).await }
            }));
        }
        Self {
            tasks,
            stop,
            store: store.clone(),
            workers,
        }
    }

    /// Stops keeping house and signs the workers off.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        let workers = self.workers.into_iter().map(|(name, _)| name).collect();
        if let Err(error) = self.store.run(ForgetWorkers { workers }).await {
            tracing::warn!(%error, "the workers could not be signed off");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Chore {
    Announce,
    Sweep,
    Prune,
}

impl Chore {
    async fn run(self, store: &dyn Store, settings: &KeeperSettings) {
        let done = match self {
            Self::Announce => announce(store, settings).await,
            Self::Sweep => sweep(store, settings.policy).await,
            Self::Prune => prune(store, settings.retention).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, chore = ?self, "housekeeping failed; it is tried again");
        }
    }
}

async fn announce(store: &dyn Store, settings: &KeeperSettings) -> Result<(), StoreError> {
    for (worker, device) in &settings.workers {
        let seen = SeeWorker {
            worker: worker.clone(),
            device: *device,
            patience: settings.policy.lease,
        };
        store.run(seen).await?;
    }
    Ok(())
}

async fn sweep(store: &dyn Store, policy: Policy) -> Result<(), StoreError> {
    let swept = store.run(Sweep { policy }).await?;
    if swept != Swept::default() {
        tracing::warn!(?swept, "took jobs from workers that fell silent");
    }
    let load = store.load().await?;
    metrics::gauge!("fewstep_jobs_queued").set(load.queued as f64);
    metrics::gauge!("fewstep_jobs_running").set(load.running as f64);
    Ok(())
}

async fn prune(store: &dyn Store, retention: Millis) -> Result<(), StoreError> {
    loop {
        let pruned = store.run(Prune { retention }).await?;
        tracing::debug!(?pruned, "deleted what is old");
        if !pruned.is_partial {
            return Ok(());
        }
    }
}

/// Runs a chore now and after every pause, until told to stop.
async fn repeat<F: Future<Output = ()>>(
    every: Duration,
    mut stop: watch::Receiver<bool>,
    chore: impl Fn() -> F,
) {
    loop {
        chore().await;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
