//! Cached answers against a bare handler that returns the same bytes: requests a second and p99, in turns, over loopback.
//!
//! `cargo bench --bench serving`. Both servers run in processes of their own kind: the product's binary, and this program
//! with `bare` as its argument. 64 keep-alive connections, a bounded time each.

mod server;

use axum::Router;
use axum::routing::get;
use reqwest::Client;
use server::Server;
use std::process::Command;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const PATH: &str = "/v1/schedules/sd-v2.1/unipc/5";
const BODY: &str = r#"{"model": "sd-v2.1", "solver": "unipc", "nfe": 5}"#;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Ok(body) = std::env::var("FEWSTEP_BENCH_BARE") {
        runtime.block_on(bare(body));
    } else {
        runtime.block_on(measure());
    }
}

/// The yardstick: one route, one body.
async fn bare(body: String) {
    let body = bytes::Bytes::from(body);
    let handler = move || {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    println!(
        "listening on http://{}",
        listener.local_addr().expect("an address")
    );
    let router = Router::new().route(PATH, get(handler));
    axum::serve(listener, router).await.expect("serving");
}

async fn measure() {
    let mut product = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    product.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
    product.args(["--database-url", "sqlite::memory:"]);
    let product = Server::start(product);
    let client = Client::builder()
        .pool_max_idle_per_host(CONNECTIONS)
        .build()
        .expect("a client");
    let post = |url: String| {
        client
            .post(url)
            .header("content-type", "application/json")
            .body(BODY)
    };
    let jobs = format!("{}/v1/jobs", product.base);
    post(jobs.clone()).send().await.expect("an answer");
    let cached = format!("{}{PATH}", product.base);
    let body = client
        .get(&cached)
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    let mut yardstick = Command::new(std::env::current_exe().expect("this program"));
    yardstick.env("FEWSTEP_BENCH_BARE", body);
    let yardstick = Server::start(yardstick);
    let bare = format!("{}{PATH}", yardstick.base);

    println!("{:>24} {:>14} {:>10}", "", "requests/s", "p99 ms");
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let contenders = [
            ("bare handler", client.get(&bare)),
            ("cached GET", client.get(&cached)),
            ("known POST", post(jobs.clone())),
        ];
        for ((name, request), rates) in contenders.into_iter().zip(&mut rates) {
            let (rate, p99) = load(&request).await;
            println!("{name:>24} {rate:>14.0} {:>10.2}", p99.as_secs_f64() * 1e3);
            rates.push(rate);
        }
    }
    let [bare, get, post] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "cached GET / bare handler {:.2}, known POST / cached GET {:.2} (medians)",
        get / bare,
        post / get
    );
}

/// Requests a second and the 99th percentile of their times over a round.
async fn load(request: &reqwest::RequestBuilder) -> (f64, Duration) {
    let end = Instant::now() + ROUND;
    let workers = (0..CONNECTIONS).map(|_| {
        let request = request.try_clone().expect("a plain body");
        tokio::spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let asked = Instant::now();
                let response = request
                    .try_clone()
                    .expect("a plain body")
                    .send()
                    .await
                    .expect("an answer");
                assert!(response.status().is_success());
                response.bytes().await.expect("a body");
                times.push(asked.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        times.extend(worker.await.expect("a worker"));
    }
    times.sort();
    (
        times.len() as f64 / ROUND.as_secs_f64(),
        times[times.len() * 99 / 100],
    )
}
