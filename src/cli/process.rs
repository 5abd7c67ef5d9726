//! What the long-running commands share: their database, their log, the runtime, and how they are told to stop.

use crate::telemetry::{self, LogFormat};
use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

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

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
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
}
