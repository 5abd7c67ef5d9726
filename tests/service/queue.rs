//! The queue over HTTP: lists, cancellation, batches, events, keys, limits.

use crate::databases::sqlite;
use crate::support::{Server, events, json, long_request, request};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);
const ENDED: &[&str] = &["succeeded", "failed", "canceled"];

/// A job that runs until it is canceled, or for a minute or so.
fn endless(nfe: u64) -> Value {
    long_request(nfe, 1000)
}

async fn cancel(server: &Server, id: &str) -> (u16, Value) {
    let asked = server.post(&format!("/v1/jobs/{id}/cancel"), &json!({}));
    json(asked.send().await.unwrap()).await
}

#[tokio::test]
async fn waiting_jobs_are_canceled_at_once_and_running_ones_within_a_second() {
    let server = Server::start_as("sqlite::memory:", &["--workers", "1"]);
    let running = server.submit(&endless(30)).await;
    let waiting = server.submit(&endless(31)).await;
    server.job_in(&running, &["running"], PATIENCE).await;
    assert_eq!(server.job(&waiting).await["state"], "queued");

    let (status, job) = cancel(&server, &waiting).await;
    assert_eq!((status, &job["state"]), (200, &json!("canceled")));
    let asked = Instant::now();
    let (status, job) = cancel(&server, &running).await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!((status, &job["state"]), (200, &json!("canceled")), "{job}");
    // Again does no harm; what has succeeded stays.
    assert_eq!(cancel(&server, &running).await.0, 200);
    assert_eq!(cancel(&server, "none").await.0, 404);
    let done = server.submit(&request(4)).await;
    server.job_in(&done, &["succeeded"], PATIENCE).await;
    let (status, problem) = cancel(&server, &done).await;
    assert_eq!((status, &problem["code"]), (409, &json!("job_ended")));
    // The canceled request may be asked for again, as a new job, even before it has ended.
    let again = server.submit(&endless(31)).await;
    assert_ne!(again, waiting);
    cancel(&server, &again).await;
}

#[tokio::test]
async fn jobs_are_listed_in_pages_by_state_and_model() {
    let server = Server::start_with("sqlite::memory:");
    let mut ids = Vec::new();
    for nfe in 4..9 {
        let id = server.submit(&request(nfe)).await;
        server.job_in(&id, &["succeeded"], PATIENCE).await;
        ids.insert(0, id);
    }
    let other = server
        .submit(&json!({"model": "sdxl", "solver": "ddim", "nfe": 4}))
        .await;
    server.job_in(&other, &["succeeded"], PATIENCE).await;
    let mut seen = Vec::new();
    let mut path = "/v1/jobs?state=succeeded&model=sd-v2.1&limit=2".to_owned();
    loop {
        let (status, page) = json(server.get(&path).send().await.unwrap()).await;
        assert_eq!(status, 200, "{page}");
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= 2);
        seen.extend(
            jobs.iter()
                .map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/jobs?state=succeeded&model=sd-v2.1&limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
    let (_, none) = json(server.get("/v1/jobs?state=failed").send().await.unwrap()).await;
    assert_eq!(none["jobs"], json!([]));
    let wrong = server.get("/v1/jobs?state=lost").send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn a_batch_has_an_outcome_for_every_request() {
    let server = Server::start_with("sqlite::memory:");
    let requests: Vec<Value> = (3..=20)
        .map(request)
        .chain([
            json!({"model": "none", "solver": "unipc", "nfe": 5}),
            json!({"nfe": "five"}),
            request(5),
        ])
        .collect();
    let asked = server
        .post("/v1/jobs/batch", &json!({"requests": requests}))
        .header("prefer", "wait=50");
    let (status, batch) = json(asked.send().await.unwrap()).await;
    assert_eq!(status, 200, "{batch}");
    let outcomes = batch["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 21);
    for (outcome, nfe) in outcomes.iter().zip(3..=20) {
        assert_eq!(outcome["status"], 200, "{outcome}");
        assert_eq!(outcome["job"]["schedule"]["nfe"], nfe);
    }
    assert_eq!(outcomes[18]["problem"]["errors"][0]["pointer"], "/model");
    assert_eq!(outcomes[19]["status"], 422);
    assert_eq!(outcomes[20]["job"]["id"], outcomes[2]["job"]["id"]);
    assert_eq!(server.metric("fewstep_optimizations_total").await, 18.0);
    for wrong in [
        json!({"requests": []}),
        json!({"requests": vec![request(5); 101]}),
        json!({}),
    ] {
        let response = server.post("/v1/jobs/batch", &wrong).send().await.unwrap();
        assert_eq!(response.status(), 422);
    }
}

#[tokio::test]
async fn a_job_is_followed_from_where_its_client_left() {
    let server = Server::start_with("sqlite::memory:");
    let id = server.submit(&long_request(16, 250)).await;
    let before = events(&server, &id, None, |event| event.name == "progress").await;
    let names: Vec<&str> = before.iter().map(|event| event.name.as_str()).collect();
    assert!(
        names.starts_with(&["state"]) && names.ends_with(&["progress"]),
        "{names:?}"
    );
    let last = before.last().unwrap();
    assert_eq!(last.data["phase"], "search");
    assert!(last.data["best_fitness"].is_f64() && last.data["evaluations"].is_u64());

    let after = events(&server, &id, Some(&last.id), |_| false).await;
    assert!(
        before.iter().all(|seen| !after.contains(seen)),
        "an event came twice"
    );
    let fractions: Vec<f64> = before
        .iter()
        .chain(&after)
        .filter_map(|e| e.data["fraction"].as_f64())
        .collect();
    assert!(
        fractions.len() > 2 && fractions.is_sorted(),
        "{fractions:?}"
    );
    let [.., state, result] = after.as_slice() else {
        panic!("{after:?}");
    };
    assert_eq!(
        (state.name.as_str(), &state.data["state"]),
        ("state", &json!("succeeded"))
    );
    assert_eq!(result.name, "result");
    assert_eq!(result.data["schedule"]["nfe"], 16);

    assert_eq!(
        events(&server, &id, Some(&state.id), |_| false).await,
        std::slice::from_ref(result)
    );
    assert_eq!(events(&server, &id, Some(&result.id), |_| false).await, []);
    // An id of another job's events, or of none, does not hide this one's.
    assert_eq!(
        events(&server, &id, Some("99.result"), |_| false)
            .await
            .len(),
        2
    );
    assert_eq!(events(&server, &id, Some("x"), |_| false).await.len(), 2);
    let missing = server.get("/v1/jobs/none/events").send().await.unwrap();
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn an_idempotency_key_stands_for_its_request() {
    let server = Server::start_with("sqlite::memory:");
    let with_key = async |body: &Value, key: &str| {
        let asked = server.post("/v1/jobs", body).header("idempotency-key", key);
        json(asked.send().await.unwrap()).await
    };
    let running = endless(30);
    let (status, first) = with_key(&running, "a").await;
    assert_eq!(status, 202, "{first}");
    let id = first["id"].as_str().unwrap();
    cancel(&server, id).await;
    server.job_in(id, ENDED, PATIENCE).await;
    // The same key finds the canceled job; without it the request starts anew.
    let (status, replayed) = with_key(&running, "a").await;
    assert_eq!(
        (status, &replayed["id"], &replayed["state"]),
        (200, &first["id"], &json!("canceled"))
    );
    let (status, problem) = with_key(&request(5), "a").await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    assert_eq!(with_key(&request(5), "b").await.0, 200);
    let too_long = "k".repeat(256);
    assert_eq!(with_key(&request(5), &too_long).await.0, 400);

    // The key of a batch stands for all of it.
    let wrong = server
        .post("/v1/jobs/batch", &json!({"requests": [request(6)]}))
        .header("idempotency-key", "a");
    assert_eq!(wrong.send().await.unwrap().status(), 422);
    let batch = json!({"requests": [request(6), request(7)]});
    let send = async || {
        let asked = server
            .post("/v1/jobs/batch", &batch)
            .header("idempotency-key", "c");
        json(asked.send().await.unwrap()).await.1
    };
    let (first, second) = (send().await, send().await);
    for i in 0..2 {
        assert_eq!(
            first["outcomes"][i]["job"]["id"],
            second["outcomes"][i]["job"]["id"]
        );
    }
}

#[tokio::test]
async fn a_full_queue_and_a_busy_client_are_told_when_to_come_back() {
    let server = Server::start_as("sqlite::memory:", &["--workers", "0", "--queue", "3"]);
    for nfe in 4..7 {
        server.submit(&request(nfe)).await;
    }
    let refused = server.post("/v1/jobs", &request(7)).send().await.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    let (status, problem) = json(refused).await;
    assert_eq!((status, &problem["code"]), (503, &json!("queue_full")));
    let batch = json!({"requests": [request(7), request(8)]});
    let (_, batch) = json(server.post("/v1/jobs/batch", &batch).send().await.unwrap()).await;
    assert_eq!(batch["outcomes"][1]["status"], 503);

    let server = Server::start_as("sqlite::memory:", &["--rate-limit", "5"]);
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let response = server.post("/v1/jobs", &request(5)).send().await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(
            status == 429,
            response.headers().contains_key("retry-after")
        );
        statuses.push(status);
    }
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses.contains(&429));
    assert_eq!(server.get("/v1/jobs").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_stop_gives_jobs_back_and_the_next_start_runs_them() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let server = Server::start_as(&url, &["--workers", "1"]);
    let running = server.submit(&long_request(12, 600)).await;
    let waiting = server.submit(&request(5)).await;
    server.job_in(&running, &["running"], PATIENCE).await;
    let follower = server
        .get(&format!("/v1/jobs/{running}/events"))
        .send()
        .await
        .unwrap();
    let (code, took) = server.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(follower);
    let restarted = Server::start_as(&url, &["--workers", "1"]);
    for id in [&running, &waiting] {
        let job = restarted.job_in(id, ENDED, PATIENCE).await;
        assert_eq!(
            (&job["state"], &job["attempts"]),
            (&json!("succeeded"), &json!(1)),
            "{job}"
        );
    }
}

#[tokio::test]
async fn a_killed_server_takes_up_its_jobs_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let server = Server::start_as(&url, &["--workers", "1"]);
    let id = server.submit(&long_request(8, 300)).await;
    server.job_in(&id, &["running"], PATIENCE).await;
    drop(server);
    let restarted = Server::start_as(&url, &["--workers", "1"]);
    let back = Instant::now();
    let job = restarted.job_in(&id, ENDED, PATIENCE).await;
    assert_eq!(
        (&job["state"], &job["attempts"]),
        (&json!("succeeded"), &json!(2)),
        "{job}"
    );
    // Not after the half minute of a lease.
    assert!(
        back.elapsed() < Duration::from_secs(15),
        "{:?}",
        back.elapsed()
    );
}
