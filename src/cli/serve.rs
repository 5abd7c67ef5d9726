//! `fewstep serve`, and the commands around it: `migrate` and `openapi`.

use super::denoisers::DenoiserArgs;
use super::node::{Node, NodeArgs};
use super::process::{DatabaseArgs, LogArgs, StopSignal, block_on};
use crate::http::{self, App, RateLimit};
use crate::jobs::{Board, Jobs};
use crate::store::{self, Store};
use crate::telemetry;
use crate::webhooks::{WebhookSettings, Webhooks};
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use tokio::net::TcpListener;

#[derive(Debug, Args)]
pub struct WebhookArgs {
    /// Key that signs webhooks, `whsec_` and base64; without it no webhooks are taken.
    #[arg(long, env = "FEWSTEP_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// Call webhooks at loopback and private addresses too.
    #[arg(long, env = "FEWSTEP_WEBHOOK_ALLOW_PRIVATE")]
    webhook_allow_private: bool,
}

impl WebhookArgs {
    fn webhooks(&self, store: &Arc<dyn Store>) -> anyhow::Result<Option<Webhooks>> {
        let settings = self.webhook_secret.as_ref().map(|secret| WebhookSettings {
            secret: secret.clone(),
            allow_private: self.webhook_allow_private,
        });
        let webhooks = settings.map(|settings| Webhooks::new(store.clone(), &settings));
        Ok(webhooks.transpose()?)
    }
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on.
    #[arg(long, env = "FEWSTEP_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    denoisers: DenoiserArgs,
    /// Jobs that may wait at a time; more are answered 503.
    #[arg(long, env = "FEWSTEP_QUEUE", default_value_t = 10_000)]
    queue: u32,
    /// Requests for work a second, and at once, from one address; more are answered 429. Any number unless given.
    #[arg(long, env = "FEWSTEP_RATE_LIMIT")]
    rate_limit: Option<NonZeroU32>,
    #[command(flatten)]
    webhooks: WebhookArgs,
    #[command(flatten)]
    log: LogArgs,
}

pub fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    args.log.start();
    let metrics = telemetry::count().context("cannot start the metrics")?;
    block_on(async {
        let stop = StopSignal::watch()?;
        let Some(store) = args.database.open(&stop).await? else {
            return Ok(());
        };
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        let board = Board::default();
        let jobs = Jobs::new(store.clone(), board.clone(), args.queue)
            .context("cannot start the computing threads")?;
        let webhooks = args.webhooks.webhooks(&store)?;
        let models = args.denoisers.models()?;
        let node = Node::start(&store, &board, &models, &args.node)?;
        let callers = webhooks.as_ref().map(Webhooks::start);
        tracing::info!(%address, workers = args.node.workers(), "listening");
        writeln!(std::io::stdout(), "fewstep listening on http://{address}")?;
        let rate_limit = RateLimit::new(args.rate_limit);
        let app = App::new(store.clone(), jobs, models, webhooks, rate_limit, metrics);
        let serving = http::serve(listener, app, stop.clone().given());
        let working = async {
            stop.clone().given().await;
            if let Some(callers) = callers {
                callers.stop();
            }
            node.stop().await;
        };
        let ended = stop.bounds(async {
            let (served, ()) = tokio::join!(serving, working);
            store.close().await;
            served
        });
        Ok(ended.await.transpose().map(drop)?)
    })
}

pub fn migrate(args: &DatabaseArgs) -> anyhow::Result<()> {
    block_on(async {
        let store = store::open(&args.database_url).await?;
        store.close().await;
        eprintln!("the database is up to date");
        Ok(())
    })
}

pub fn print_openapi() -> anyhow::Result<()> {
    Ok(write!(std::io::stdout(), "{}", http::openapi_yaml())?)
}
