//! A process's share of the queue: its workers and its housekeeping. Also `fewstep worker`, which is nothing else.

use super::denoisers::DenoiserArgs;
use super::process::{DatabaseArgs, LogArgs, StopSignal, block_on};
use crate::denoiser::{Device, Models};
use crate::jobs::{Board, Keeper, KeeperSettings, WorkerSettings, Workers};
use crate::lifecycle::{DeviceKind, Policy};
use crate::store::Store;
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::sync::Arc;

/// Workers without a number of their own: more would only share the same CPUs.
const MOST_WORKERS: usize = 4;
const DAY_MS: i64 = 24 * 3_600_000;

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Jobs run at a time; one per CPU, 4 at most, unless given. 0 leaves them to other processes.
    #[arg(long, env = "FEWSTEP_WORKERS", value_parser = clap::value_parser!(u16).range(0..=1024))]
    workers: Option<u16>,
    /// Seconds after which a worker that fell silent is taken for dead and its job run again.
    #[arg(long, env = "FEWSTEP_LEASE", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    lease: u16,
    /// Days that failed and canceled jobs are kept. Schedules are kept forever.
    #[arg(long, env = "FEWSTEP_RETENTION_DAYS", default_value_t = 30)]
    retention_days: u16,
}

/// Workers and housekeeping under way.
pub struct Node {
    workers: Workers,
    keeper: Keeper,
}

impl Node {
    pub fn start(
        store: &Arc<dyn Store>,
        board: &Board,
        models: &Arc<Models>,
        args: &NodeArgs,
    ) -> anyhow::Result<Self> {
        let process = ulid::Ulid::generate();
        let device = match models.device() {
            Device::Cpu => DeviceKind::Cpu,
            Device::Cuda(_) | Device::Metal(_) => DeviceKind::Gpu,
        };
        let workers: Vec<(String, DeviceKind)> = (0..args.workers())
            .map(|i| (format!("{process}/{i}"), device))
            .collect();
        let policy = Policy {
            lease: i64::from(args.lease) * 1000,
            ..Policy::default()
        };
        let settings = KeeperSettings {
            policy,
            retention: i64::from(args.retention_days) * DAY_MS,
            workers: workers.clone(),
        };
        let keeper = Keeper::start(store, &settings);
        let settings = WorkerSettings { workers, policy };
        let workers = Workers::start(store, board, models, &settings)
            .context("cannot start the computing threads")?;
        Ok(Self { workers, keeper })
    }

    /// Lets short jobs end and gives long ones back.
    pub async fn stop(self) {
        self.workers.stop().await;
        self.keeper.stop().await;
    }
}

impl NodeArgs {
    pub fn workers(&self) -> usize {
        self.workers.map_or_else(
            || std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS)),
            usize::from,
        )
    }
}

#[derive(Debug, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    denoisers: DenoiserArgs,
    #[command(flatten)]
    log: LogArgs,
}

pub fn work(args: &WorkerArgs) -> anyhow::Result<()> {
    args.log.start();
    block_on(async {
        let stop = StopSignal::watch()?;
        let Some(store) = args.database.open(&stop).await? else {
            return Ok(());
        };
        let models = args.denoisers.models()?;
        let node = Node::start(&store, &Board::default(), &models, &args.node)?;
        tracing::info!(workers = args.node.workers(), "working");
        writeln!(std::io::stdout(), "fewstep working")?;
        let working = async {
            stop.clone().given().await;
            tracing::info!("stopping");
            node.stop().await;
            store.close().await;
        };
        stop.bounds(working).await;
        Ok(())
    })
}
