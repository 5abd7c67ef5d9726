//! Processes that are killed without warning, under load: no accepted job is lost, none has two results, all end.
//!
//! `FEWSTEP_CRASH_ROUNDS=200 cargo test --release --test crash -- --nocapture` is the long run; 10 rounds otherwise.

#[path = "service/databases.rs"]
mod databases;
#[expect(dead_code, reason = "shared with the service tests")]
#[path = "service/support.rs"]
mod support;

use databases::{Postgres, sqlite};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Server, long_request, request};

const CLIENTS: u64 = 4;
/// Seconds; short, so that many crashes fit into a test.
const LEASE: &str = "1";
const FINAL: [&str; 3] = ["succeeded", "failed", "canceled"];

/// Every acknowledged job by its id: as it was when it was first seen to have ended.
type Ledger = Arc<Mutex<HashMap<String, Option<Value>>>>;

fn below(n: u64, rng: &mut ChaCha8Rng) -> u64 {
    rng.next_u64() % n
}

/// One client: asks for this and that until its server is gone, and notes what was acknowledged.
async fn ask(server: Arc<Server>, ledger: Ledger, mut rng: ChaCha8Rng) {
    loop {
        let mut body = if below(8, &mut rng) == 0 {
            long_request(12, 40)
        } else {
            request(4)
        };
        // Few enough that clients often ask for the same.
        body["seed"] = below(10_000, &mut rng).into();
        let mut asked = server.post("/v1/jobs", &body);
        if below(4, &mut rng) > 0 {
            asked = asked.header("prefer", "respond-async");
        }
        let Ok(response) = asked.send().await else {
            return;
        };
        let status = response.status();
        let Ok(job) = response.json::<Value>().await else {
            return;
        };
        if status.is_success() {
            note(&ledger, &job);
        } else {
            assert_eq!(status, 503, "{job}");
        }
    }
}

/// What of a job must never change once it has ended.
fn ending(job: &Value) -> Value {
    serde_json::json!([
        job["state"],
        job["schedule"],
        job["error"],
        job["finished_at"],
        job["attempts"]
    ])
}

fn note(ledger: &Ledger, job: &Value) {
    let id = job["id"].as_str().unwrap().to_owned();
    let mut ledger = ledger.lock().unwrap();
    let known = ledger.entry(id).or_insert(None);
    if FINAL.contains(&job["state"].as_str().unwrap()) {
        let now = ending(job);
        let before = known.get_or_insert_with(|| now.clone());
        assert_eq!(*before, now, "a job changed after it had ended");
    }
}

/// Starts `servers` processes, loads them, and kills them one after the other at random moments.
async fn round(url: &str, servers: usize, ledger: &Ledger, rng: &mut ChaCha8Rng) {
    let running: Vec<Arc<Server>> = (0..servers)
        .map(|_| Arc::new(Server::start_as(url, &["--lease", LEASE, "--workers", "2"])))
        .collect();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let server = running[client as usize % servers].clone();
        let rng = ChaCha8Rng::seed_from_u64(rng.next_u64());
        clients.push(tokio::spawn(ask(server, ledger.clone(), rng)));
    }
    for server in &running {
        tokio::time::sleep(Duration::from_millis(50 + below(400, rng))).await;
        server.kill();
    }
    for client in clients {
        client.await.unwrap();
    }
}

async fn soak(url: &str, servers: usize) {
    let rounds = std::env::var("FEWSTEP_CRASH_ROUNDS").map_or(10, |text| text.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let ledger = Ledger::default();
    for _ in 0..rounds {
        round(url, servers, &ledger, &mut rng).await;
    }
    let last = Server::start_as(url, &["--lease", LEASE]);
    let ids: Vec<String> = ledger.lock().unwrap().keys().cloned().collect();
    let (mut succeeded, mut rerun) = (0, 0);
    for id in &ids {
        let job = last.job_in(id, &FINAL, Duration::from_mins(5)).await;
        note(&ledger, &job);
        rerun += usize::from(job["attempts"].as_i64().unwrap() > 1);
        // A job that three processes died over is given up; no other may fail.
        if job["state"] == "succeeded" {
            succeeded += 1;
        } else {
            assert_eq!(job["error"]["code"], "worker-lost", "{job}");
            assert_eq!(job["attempts"], 3, "{job}");
        }
    }
    // Jobs that were stored, but whose server died before it could say so, end too.
    for state in ["queued", "running"] {
        let path = format!("/v1/jobs?state={state}");
        let deadline = Instant::now() + Duration::from_mins(5);
        loop {
            let page: Value = last.get(&path).send().await.unwrap().json().await.unwrap();
            if page["jobs"] == serde_json::json!([]) {
                break;
            }
            assert!(Instant::now() < deadline, "never ended: {page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    println!(
        "{rounds} rounds: {} jobs acknowledged, {succeeded} succeeded, {rerun} run more than once, 0 lost",
        ids.len()
    );
    assert!(
        ids.len() > 5 * rounds,
        "too little load to mean anything: {}",
        ids.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    soak(&url, 1).await;
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let integrity: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(integrity, "ok");
    let twice: i64 = sqlx::query_scalar(ANSWERED_TWICE)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(twice, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_on_postgres() {
    let Some(database) = Postgres::create().await else {
        return;
    };
    soak(&database.url(), 2).await;
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    let twice: i64 = sqlx::query_scalar(ANSWERED_TWICE)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(twice, 0);
}

const ANSWERED_TWICE: &str = "SELECT count(*) FROM (SELECT digest FROM jobs WHERE state = 'succeeded' \
                              GROUP BY digest HAVING count(*) > 1) AS twice";

/// 500 jobs on three processes with the default lease; one dies in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_processes_jobs_are_run_by_the_others() {
    const JOBS: u64 = 500;
    const RERUN_WITHIN: Duration = Duration::from_secs(45);
    let Some(database) = Postgres::create().await else {
        return;
    };
    let servers: Vec<Server> = (0..3)
        .map(|_| Server::start_as(&database.url(), &["--workers", "2"]))
        .collect();
    let mut ids = Vec::new();
    for seed in 0..JOBS {
        let mut body = long_request(10, 15);
        body["seed"] = seed.into();
        ids.push(servers[seed as usize % 3].submit(&body).await);
    }
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    servers[2].kill();
    let killed_at = jiff::Timestamp::now();
    let killed = Instant::now();
    let mut orphans = 0;
    for id in &ids {
        let job = servers[0].job_in(id, &FINAL, Duration::from_mins(5)).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        if job["attempts"] == 2 {
            orphans += 1;
            let finished: jiff::Timestamp = job["finished_at"].as_str().unwrap().parse().unwrap();
            let took = Duration::try_from(finished.duration_since(killed_at)).unwrap();
            assert!(took < RERUN_WITHIN, "re-run only after {took:?}");
        }
    }
    println!(
        "{JOBS} jobs done {:?} after the kill, {orphans} of them run again",
        killed.elapsed()
    );
    assert!(orphans > 0, "the kill found nothing running");
    let schedules: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT digest) FROM jobs WHERE state = 'succeeded'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(schedules, JOBS as i64);
}
