//! Durable acceptance of jobs: jobs a second with group commit against one commit each, on the same disk, in turns; and how
//! long a `POST` takes at a steady 100 a second.
//!
//! `cargo bench --bench queue`. Databases lie in the folder for temporary files, or in `FEWSTEP_BENCH_FOLDER`. With
//! `TEST_DATABASE_URL` the same is measured on PostgreSQL.

mod server;

use fewstep::lifecycle::Work;
use fewstep::store::operations::Enqueue;
use fewstep::store::{self, NewJob, Store};
use reqwest::Client;
use server::Server;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// Clients that accept jobs at a time.
const CROWD: usize = 512;
/// Size of a request as jobs keep it.
const REQUEST_BYTES: usize = 2048;
/// Steady load: requests a second, and how many.
const RATE: u32 = 100;
const REQUESTS: u32 = 1000;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let parent = std::env::var("FEWSTEP_BENCH_FOLDER");
        let folder = match parent {
            Ok(parent) => tempfile::tempdir_in(parent),
            Err(_) => tempfile::tempdir(),
        };
        let folder = folder.expect("a folder");
        let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        acceptance(&url("acceptance.db")).await;
        steady(&url("steady.db")).await;
        if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
            println!("PostgreSQL");
            acceptance(&url).await;
        }
    });
}

/// Alone, every job waits for its own commit; in a crowd, jobs share commits.
async fn acceptance(url: &str) {
    let store = store::open(url).await.expect("a store");
    println!(
        "{:>24} {:>12} {:>10}",
        "durable enqueue", "jobs/s", "p99 ms"
    );
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for ((name, clients), rates) in [("one client", 1), ("512 clients", CROWD)]
            .into_iter()
            .zip(&mut rates)
        {
            let (rate, p99) = enqueue(&store, clients).await;
            println!("{name:>24} {rate:>12.0} {:>10.2}", p99.as_secs_f64() * 1e3);
            rates.push(rate);
        }
    }
    let [alone, crowd] = rates.map(median);
    println!(
        "group commit / single commits: {:.1} (medians)",
        crowd / alone
    );
    store.close().await;
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Jobs accepted a second, and the 99th percentile of the time each took.
async fn enqueue(store: &Arc<dyn Store>, clients: usize) -> (f64, Duration) {
    let request = format!("\"{}\"", "x".repeat(REQUEST_BYTES));
    let end = Instant::now() + ROUND;
    let tasks = (0..clients).map(|_| {
        let (store, request) = (store.clone(), request.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let id = ulid::Ulid::generate().to_string();
                let job = NewJob {
                    digest: id.clone(),
                    id,
                    model: "sd-v2.1".to_owned(),
                    solver: "unipc".to_owned(),
                    nfe: 5,
                    request: request.clone(),
                    work: Work::Proxy,
                    priority: 0,
                    created_at: "2026-01-01T00:00:00Z".to_owned(),
                };
                let enqueue = Enqueue {
                    job,
                    key: None,
                    webhook: None,
                    has_room: true,
                };
                let asked = Instant::now();
                let accepted = store.run(enqueue).await;
                accepted.expect("an accepted job");
                times.push(asked.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await.expect("a client"));
    }
    (
        times.len() as f64 / ROUND.as_secs_f64(),
        percentile(times, 99),
    )
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort();
    times[times.len() * percent / 100]
}

/// New requests at a steady rate, from the wire to the schedule: accepted, computed and answered.
async fn steady(url: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
    command.args(["--database-url", url]);
    let server = Server::start(command);
    let jobs = format!("{}/v1/jobs", server.base);
    let client = Client::new();
    for (name, preference) in [
        ("POST, respond-async", "respond-async"),
        ("POST, answered", "wait=10"),
    ] {
        let mut clock = tokio::time::interval(Duration::from_secs(1) / RATE);
        let mut asked = Vec::new();
        for seed in 0..REQUESTS {
            clock.tick().await;
            let seed = u64::from(seed)
                + if preference == "wait=10" {
                    1_000_000
                } else {
                    0
                };
            let body =
                serde_json::json!({"model": "sd-v2.1", "solver": "unipc", "nfe": 5, "seed": seed});
            let request = client.post(&jobs).header("prefer", preference).json(&body);
            asked.push(tokio::spawn(async move {
                let asked = Instant::now();
                let response = request.send().await.expect("an answer");
                assert!(response.status().is_success());
                response.bytes().await.expect("a body");
                asked.elapsed()
            }));
        }
        let mut times = Vec::new();
        for request in asked {
            times.push(request.await.expect("a request"));
        }
        let p50 = percentile(times.clone(), 50);
        let p99 = percentile(times, 99);
        println!(
            "{name:>24} at {RATE}/s: p50 {:.1} ms, p99 {:.1} ms",
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3
        );
    }
}
