//! Several processes on one PostgreSQL: jobs accepted here run there, and whoever asks is told.

use crate::databases::Postgres;
use crate::support::{Server, Worker, json, long_request, request};
use serde_json::json;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_job_accepted_by_one_process_runs_in_another_and_is_seen_by_a_third() {
    let Some(database) = Postgres::create().await else {
        return;
    };
    let url = database.url();
    let (here, there) = (
        Server::start_as(&url, &["--workers", "0"]),
        Server::start_as(&url, &["--workers", "0"]),
    );
    let id = here.submit(&request(5)).await;
    assert_eq!(there.job(&id).await["state"], "queued");
    let _worker = Worker::start(&url, &["--workers", "1"]);
    here.job_in(&id, &["succeeded"], PATIENCE).await;
    let known = there
        .get("/v1/schedules/sd-v2.1/unipc/5")
        .send()
        .await
        .unwrap();
    assert_eq!(known.status(), 200);
    // The answer comes when the worker is done, not at the next look.
    let asked = Instant::now();
    let response = there
        .post("/v1/jobs", &request(6))
        .header("prefer", "wait=30");
    let (status, job) = json(response.send().await.unwrap()).await;
    assert_eq!((status, &job["state"]), (200, &json!("succeeded")));
    assert!(
        asked.elapsed() < Duration::from_millis(900),
        "{:?}",
        asked.elapsed()
    );

    // Progress crosses processes, and so does a cancellation.
    let id = here.submit(&long_request(30, 1000)).await;
    let deadline = Instant::now() + PATIENCE;
    while there.job(&id).await["progress"].is_null() {
        assert!(Instant::now() < deadline, "no progress was seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = Instant::now();
    let cancel = there.post(&format!("/v1/jobs/{id}/cancel"), &json!({}));
    cancel.send().await.unwrap();
    here.job_in(&id, &["canceled"], Duration::from_secs(15))
        .await;
    println!("canceled across processes after {:?}", asked.elapsed());
}
