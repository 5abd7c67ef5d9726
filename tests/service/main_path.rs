//! The service's main path as a client sees it: ask, fetch, revalidate, restart.

use crate::support::{Server, json, request};
use serde_json::json;

#[tokio::test]
async fn a_request_is_computed_once_and_served_ever_after() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let missing = server
        .get("/v1/schedules/sd-v2.1/unipc/5")
        .send()
        .await
        .unwrap();
    let (status, problem) = json(missing).await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("POST"));

    let (status, job) = json(server.post("/v1/jobs", &request(5)).send().await.unwrap()).await;
    assert_eq!(
        (status, &job["state"], &job["cached"]),
        (200, &json!("succeeded"), &json!(false))
    );
    let schedule = &job["schedule"];
    assert_eq!(schedule["timesteps"].as_array().unwrap().len(), 5);
    assert_eq!(schedule["sigmas"].as_array().unwrap().len(), 6);
    assert!(schedule["fitness"]["mep"].as_f64().unwrap() < 3.1137);

    let (status, again) = json(server.post("/v1/jobs", &request(5)).send().await.unwrap()).await;
    assert_eq!((status, &again["cached"]), (200, &json!(true)));
    assert_eq!(again["schedule"], *schedule);
    assert_eq!(again["id"], job["id"]);
    assert_eq!(server.metric("fewstep_optimizations_total").await, 1.0);

    let by_key = server
        .get("/v1/schedules/sd-v2.1/unipc/5")
        .send()
        .await
        .unwrap();
    let tag = by_key.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", schedule["id"].as_str().unwrap()));
    assert_eq!(by_key.headers()["cache-control"], "no-cache");
    assert_eq!(json(by_key).await.1, *schedule);
    let revalidated = server
        .get("/v1/schedules/sd-v2.1/unipc/5")
        .header("if-none-match", &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(revalidated.status(), 304);
    assert_eq!(revalidated.bytes().await.unwrap().len(), 0);

    let (code, took) = server.stop();
    assert_eq!(code, Some(0));
    assert!(took.as_secs() < 10);
    let restarted = Server::start(folder.path());
    let (status, kept) = json(
        restarted
            .post("/v1/jobs", &request(5))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!((status, &kept["cached"]), (200, &json!(true)));
    assert_eq!(kept["schedule"], *schedule);
    let at_once = restarted
        .post("/v1/jobs", &request(5))
        .header("prefer", "respond-async");
    assert_eq!(at_once.send().await.unwrap().status(), 200);
    let by_id = format!("/v1/schedules/{}", schedule["id"].as_str().unwrap());
    let by_id = restarted.get(&by_id).send().await.unwrap();
    assert!(
        by_id.headers()["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert_eq!(json(by_id).await.1, *schedule);
    let job_path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let (status, looked_up) = json(restarted.get(&job_path).send().await.unwrap()).await;
    assert_eq!((status, &looked_up["schedule"]), (200, schedule));
    assert_eq!(restarted.metric("fewstep_optimizations_total").await, 0.0);
}

#[tokio::test]
async fn two_hundred_identical_requests_are_one_optimisation() {
    let server = Server::start_with("sqlite::memory:");
    // Long enough that the requests meet while it runs.
    let mut slow = request(20);
    slow["objective"] = json!("unipc-midpoint");
    let requests = (0..200).map(|_| {
        let pending = server
            .post("/v1/jobs", &slow)
            .header("prefer", "wait=50")
            .send();
        tokio::spawn(async move { json(pending.await.unwrap()).await })
    });
    let mut ids = std::collections::HashSet::new();
    let mut joined = 0;
    for pending in requests.collect::<Vec<_>>() {
        let (status, job) = pending.await.unwrap();
        assert_eq!(status, 200, "{job}");
        joined += usize::from(job["deduplicated"] == true);
        ids.insert(job["schedule"]["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 1);
    assert!(joined > 0);
    assert_eq!(server.metric("fewstep_optimizations_total").await, 1.0);
}

#[tokio::test]
async fn a_client_that_does_not_wait_follows_the_job() {
    let server = Server::start_with("sqlite::memory:");
    let mut slow = request(12);
    slow["objective"] = json!("unipc-midpoint");
    let asked = server
        .post("/v1/jobs", &slow)
        .header("prefer", "respond-async");
    let response = asked.send().await.unwrap();
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["preference-applied"], "respond-async");
    assert!(response.headers().contains_key("retry-after"));
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let mut seen_running = false;
    for _ in 0..3000 {
        let (status, job) = json(server.get(&location).send().await.unwrap()).await;
        assert_eq!(status, 200);
        if job["state"] == "succeeded" {
            assert!(seen_running, "its progress was never seen");
            assert_eq!(job["schedule"]["nfe"], 12);
            return;
        }
        if let Some(fraction) = job["progress"]["fraction"].as_f64() {
            assert!((0.0..=1.0).contains(&fraction));
            seen_running = true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the job never finished");
}

#[tokio::test]
async fn inline_and_registered_models_work_in_paths() {
    let server = Server::start_with("sqlite::memory:");
    let noise = json!({"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012});
    let inline = json!({"model": {"noise": noise}, "solver": "euler", "nfe": 4, "seed": 66});
    let (status, job) = json(server.post("/v1/jobs", &inline).send().await.unwrap()).await;
    assert_eq!(status, 200, "{job}");
    let name = job["schedule"]["model"].as_str().unwrap();
    assert!(name.starts_with("noise-") && name.len() == 22);
    assert_eq!(job["schedule"]["solver"]["name"], "ddim");
    let path = format!("/v1/schedules/{name}/euler/4");
    assert_eq!(server.get(&path).send().await.unwrap().status(), 200);

    let model = json!({"id": "mine", "scheduler_config": {
        "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.02, "prediction_type": "v_prediction", "clip_sample": false}});
    let (status, registered) = json(server.post("/v1/models", &model).send().await.unwrap()).await;
    assert_eq!(
        (status, &registered["prediction"]),
        (201, &json!("v_prediction"))
    );
    assert_eq!(
        server
            .post("/v1/models", &model)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let other = json!({"id": "mine", "noise": noise});
    assert_eq!(
        server
            .post("/v1/models", &other)
            .send()
            .await
            .unwrap()
            .status(),
        409
    );
    let asked = json!({"model": "mine", "solver": "unipc", "nfe": 4});
    assert_eq!(
        server
            .post("/v1/jobs", &asked)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        server
            .get("/v1/schedules/mine/unipc/4")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let (_, models) = json(server.get("/v1/models").send().await.unwrap()).await;
    let ids: Vec<&str> = models["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert!(ids.contains(&"mine") && ids.contains(&name) && ids.contains(&"flux-dev"));
}

#[tokio::test]
async fn requests_that_change_the_answer_are_kept_apart() {
    let server = Server::start_with("sqlite::memory:");
    let (_, default) = json(server.post("/v1/jobs", &request(8)).send().await.unwrap()).await;
    let mut constrained = request(8);
    constrained["method"] = json!("hso-constrained");
    constrained["d_min"] = json!(0.1);
    let (status, job) = json(server.post("/v1/jobs", &constrained).send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_ne!(job["digest"], default["digest"]);
    let spacing = &job["schedule"]["spacing"];
    assert_eq!(
        (&spacing["met"], &spacing["enforced"]),
        (&json!(true), &json!(true))
    );
    let (_, listed) = json(
        server
            .get("/v1/schedules?model=sd-v2.1&limit=1")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(listed["schedules"].as_array().unwrap().len(), 1);
    let cursor = listed["next_cursor"].as_str().unwrap();
    let next = format!("/v1/schedules?model=sd-v2.1&limit=1&cursor={cursor}");
    let (_, rest) = json(server.get(&next).send().await.unwrap()).await;
    assert_eq!(rest["next_cursor"], json!(null));
    assert_ne!(rest["schedules"][0]["id"], listed["schedules"][0]["id"]);
    let (_, dry) = json(
        server
            .post("/v1/jobs?dry_run=true", &constrained)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(dry["digest"], job["digest"]);
    assert!(dry["cost"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn distilled_models_answer_their_own_schedule() {
    let server = Server::start_with("sqlite::memory:");
    let schnell = json!({"model": "flux-schnell", "solver": "euler", "nfe": 4});
    let (status, job) = json(server.post("/v1/jobs", &schnell).send().await.unwrap()).await;
    assert_eq!(status, 200, "{job}");
    assert_eq!(job["schedule"]["method"], "published");
    assert_eq!(job["schedule"]["warnings"][0]["code"], "published");
    let off = json!({"model": "flux-schnell", "solver": "euler", "nfe": 6});
    let (status, problem) = json(server.post("/v1/jobs", &off).send().await.unwrap()).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (422, &json!("/nfe"))
    );
    let mut resampled = off.clone();
    resampled["resample"] = json!(true);
    let (status, job) = json(server.post("/v1/jobs", &resampled).send().await.unwrap()).await;
    assert_eq!(
        (status, &job["schedule"]["warnings"][0]["code"]),
        (200, &json!("resampled"))
    );
    let mut searched = off;
    searched["method"] = json!("hso");
    let (status, job) = json(server.post("/v1/jobs", &searched).send().await.unwrap()).await;
    assert_eq!(status, 200);
    let warnings = job["schedule"]["warnings"].as_array().unwrap();
    assert!(
        warnings.iter().any(|w| w["code"] == "distilled_model"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn schedules_are_compared_with_rules_and_given_lists() {
    let server = Server::start_with("sqlite::memory:");
    let body = json!({"request": request(5), "given": [{"name": "mine", "sigmas": [14.6, 5.0, 2.0, 1.0, 0.3, 0.0]}]});
    let (status, comparison) = json(server.post("/v1/compare", &body).send().await.unwrap()).await;
    assert_eq!(status, 200, "{comparison}");
    let rows = comparison["rows"].as_array().unwrap();
    let value =
        |name: &str| rows.iter().find(|row| row["name"] == name).unwrap()["mep_matched"].as_f64();
    for row in rows.iter().filter(|row| row["mep_matched"].is_f64()) {
        assert!(
            row["mep_matched"].as_f64() >= value("hso"),
            "{row} beats the optimum"
        );
    }
    assert!(value("karras").is_some() && value("ays_sd15").is_some());
    let mut urgent = json!({"request": request(5)});
    urgent["request"]["priority"] = json!(5);
    let (status, problem) = json(server.post("/v1/compare", &urgent).send().await.unwrap()).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (422, &json!("/request/priority"))
    );
    let rising = json!({"request": request(5), "given": [{"name": "bad", "sigmas": [1.0, 5.0]}]});
    let (status, problem) = json(server.post("/v1/compare", &rising).send().await.unwrap()).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (422, &json!("/given/0/sigmas/1"))
    );
}
