//! What the long-running commands share: their database, their log, the runtime, and how they are told to stop.

use crate::store::{self, Store};
use crate::telemetry::{self, LogFormat};
use anyhow::Context;
use clap::Args;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a process that was told to stop takes to end what it does.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// Where jobs and schedules are kept: sqlite:PATH, `sqlite::memory:` or `postgres://USER@HOST/DATABASE`.
    #[arg(
        long,
        env = "FEWSTEP_DATABASE_URL",
        default_value = "sqlite:fewstep.db",
        hide_env_values = true
    )]
    pub database_url: String,
}

impl DatabaseArgs {
    /// The store; nothing where the process was told to stop before the database answered.
    pub async fn open(&self, stop: &StopSignal) -> anyhow::Result<Option<Arc<dyn Store>>> {
        tokio::select! {
            store = store::open(&self.database_url) => Ok(Some(store?)),
            () = stop.clone().given() => Ok(None),
        }
    }
}

#[derive(Debug, Args)]
pub struct LogArgs {
    /// What to log, such as `info`, `debug` or `fewstep=debug,sqlx=warn`.
    #[arg(long, env = "FEWSTEP_LOG", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, env = "FEWSTEP_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

impl LogArgs {
    pub fn start(&self) {
        telemetry::log(&self.log, self.log_format);
    }
}

/// Runs a command on a runtime of its own. What it leaves behind is not waited for.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(command);
    runtime.shutdown_background();
    done
}

/// SIGTERM or Ctrl-C.
#[derive(Clone)]
pub struct StopSignal(watch::Receiver<bool>);

impl StopSignal {
    /// Starts watching for the signals.
    pub fn watch() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let (given, stop) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = given.send(true);
        });
        Ok(Self(stop))
    }

    /// Resolves when one was given.
    pub async fn given(mut self) {
        let _ = self.0.wait_for(|given| *given).await;
    }

    /// Does the work, unless it takes too long after a signal was given: a database that does not answer must not keep a
    /// process that is asked to leave. What was held then is taken over when its lease runs out.
    pub async fn bounds<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let out_of_patience = async {
            self.clone().given().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = out_of_patience => {
                tracing::warn!("leaving before everything has ended");
                None
            }
        }
    }
}
