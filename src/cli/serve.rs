//! `fewstep serve`, and the commands around it: `migrate` and `openapi`.

use crate::http::{self, App};
use crate::jobs::Jobs;
use crate::store;
use crate::telemetry::{self, LogFormat};
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Pieces of work accepted at a time; more are told to come back.
const DEFAULT_QUEUE: usize = 1000;

#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// Where schedules are kept: sqlite:PATH or `sqlite::memory:`.
    #[arg(
        long,
        env = "FEWSTEP_DATABASE_URL",
        default_value = "sqlite:fewstep.db"
    )]
    database_url: String,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on.
    #[arg(long, env = "FEWSTEP_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Computing threads; one per CPU unless given.
    #[arg(long, env = "FEWSTEP_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Requests worked on or waiting at a time; more are answered 503.
    #[arg(long, env = "FEWSTEP_QUEUE", default_value_t = DEFAULT_QUEUE)]
    queue: usize,
    /// What to log, such as `info`, `debug` or `fewstep=debug,sqlx=warn`.
    #[arg(long, env = "FEWSTEP_LOG", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, env = "FEWSTEP_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

pub fn serve(args: ServeArgs) -> anyhow::Result<()> {
    telemetry::log(&args.log, args.log_format);
    let metrics = telemetry::count().context("cannot start the metrics")?;
    runtime()?.block_on(async move {
        let store = store::open(&args.database.database_url).await?;
        let workers = match args.workers {
            Some(workers) => usize::from(workers),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let jobs = Jobs::new(store.clone(), workers, args.queue)
            .context("cannot start the computing threads")?;
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        tracing::info!(%address, workers, "listening");
        writeln!(std::io::stdout(), "fewstep listening on http://{address}")?;
        http::serve(listener, App::new(store, jobs, metrics), asked_to_stop()?).await?;
        Ok(())
    })
}

pub fn migrate(args: &DatabaseArgs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let store = store::open(&args.database_url).await?;
        store.close().await;
        eprintln!("{} is up to date", args.database_url);
        Ok(())
    })
}

pub fn print_openapi() -> anyhow::Result<()> {
    Ok(write!(std::io::stdout(), "{}", http::openapi_yaml())?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Resolves on SIGTERM or Ctrl-C.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}
