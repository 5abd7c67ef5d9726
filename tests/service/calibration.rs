//! Calibration over HTTP and on the command line: ask, follow, cancel, compare, and what is refused.

use crate::support::{Server, json, request};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(5);

fn calibration(model: &str, nfe: u64, calibrate: &Value) -> Value {
    json!({"model": model, "solver": "unipc", "nfe": nfe, "calibrate": calibrate})
}

/// One that takes a blink.
fn quick() -> Value {
    calibration("mixture-2d", 4, &json!({}))
}

/// One on the network that takes minutes.
fn endless() -> Value {
    calibration(
        "fashion-mnist",
        20,
        &json!({"samples": 1000, "budget": 100}),
    )
}

#[tokio::test]
async fn a_calibration_is_a_job_like_any_other() {
    let server = Server::start_with("sqlite::memory:");
    let missing = server.get("/v1/schedules/mixture-2d/unipc/4").send();
    let (status, problem) = json(missing.await.unwrap()).await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("POST"));
    let proxy = json!({"model": "mixture-2d", "solver": "unipc", "nfe": 4});
    let proxy = server.submit(&proxy).await;
    let proxy = server.job_in(&proxy, &["succeeded"], PATIENCE).await;

    let id = server.submit(&quick()).await;
    let job = server.job_in(&id, &["succeeded"], PATIENCE).await;
    let schedule = &job["schedule"];
    assert_eq!(schedule["method"], "calibrated");
    assert!(schedule["error"]["value"].as_f64().unwrap() > 0.0);
    assert_eq!(job["request"]["calibrate"]["samples"], 64);
    let again = server.post("/v1/jobs", &quick()).send().await.unwrap();
    let (status, again) = json(again).await;
    assert_eq!((status, &again["cached"]), (200, &json!(true)));

    let best = server.get("/v1/schedules/mixture-2d/unipc/4").send();
    assert_eq!(json(best.await.unwrap()).await.1["id"], schedule["id"]);
    let by_source = server.get("/v1/schedules/mixture-2d/unipc/4?source=proxy");
    let (_, by_source) = json(by_source.send().await.unwrap()).await;
    assert_eq!(by_source["id"], proxy["schedule"]["id"]);
    let none = server.get("/v1/schedules/mixture-2d/unipc/5?source=calibrated");
    assert_eq!(none.send().await.unwrap().status(), 404);

    let compared = json!({"request": quick()});
    let (_, compared) = json(server.post("/v1/compare", &compared).send().await.unwrap()).await;
    let rows = compared["rows"].as_array().unwrap();
    assert_eq!(rows[0]["name"], "calibrated");
    assert!(
        rows.iter()
            .all(|row| row["error"]["value"].as_f64().is_some())
    );
    let other = json!({"request": calibration("mixture-2d", 5, &json!({}))});
    let (status, problem) = json(server.post("/v1/compare", &other).send().await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_calibrated")));
}

#[tokio::test]
async fn a_running_calibration_tells_its_phases_and_is_canceled_within_a_batch() {
    let server = Server::start_as("sqlite::memory:", &["--workers", "1"]);
    let id = server.submit(&endless()).await;
    server.job_in(&id, &["running"], PATIENCE).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let progress = server.job(&id).await["progress"].clone();
        if progress["evaluations"].as_u64().is_some_and(|n| n > 0) {
            assert_eq!(progress["phase"], "teacher", "{progress}");
            assert!(progress["fraction"].as_f64().unwrap() > 0.0);
            break;
        }
        assert!(Instant::now() < deadline, "no progress: {progress}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = server.post(&format!("/v1/jobs/{id}/cancel"), &json!({}));
    asked.send().await.unwrap();
    // One batch takes a tenth of a second, on a busy machine several times that.
    server
        .job_in(&id, &["canceled"], Duration::from_secs(10))
        .await;
}

#[tokio::test]
async fn what_cannot_be_calibrated_is_refused_by_field() {
    let server = Server::start_with("sqlite::memory:");
    let refused = [
        (calibration("sd-v2.1", 5, &json!({})), "/calibrate"),
        (
            calibration("mixture-2d", 5, &json!({"samples": 1})),
            "/calibrate/samples",
        ),
        (
            calibration("mixture-2d", 5, &json!({"steps": 1})),
            "/calibrate",
        ),
        (
            calibration("mixture-2d", 5, &json!({"guidance_scale": 3.0})),
            "/calibrate/guidance_scale",
        ),
        (
            calibration("mixture-2d", 5, &json!({"class_labels": [0]})),
            "/calibrate/class_labels",
        ),
        (
            calibration("fashion-mnist", 5, &json!({"class_labels": [10]})),
            "/calibrate/class_labels",
        ),
        (calibration("mixture-2d", 33, &json!({})), "/nfe"),
        (
            calibration("mixture-2d", 32, &json!({"samples": 1000, "budget": 2000})),
            "/calibrate/budget",
        ),
        (calibration("../secret", 5, &json!({})), "/model"),
        (
            json!({"model": "sd-v2.1", "solver": "auto", "nfe": 5}),
            "/solver",
        ),
    ];
    for (body, pointer) in refused {
        let (status, problem) = json(server.post("/v1/jobs", &body).send().await.unwrap()).await;
        assert_eq!(status, 422, "{body}: {problem}");
        let pointers = problem["errors"].as_array().unwrap();
        assert!(
            pointers
                .iter()
                .any(|e| e["pointer"].as_str().unwrap().starts_with(pointer)),
            "{body}: {problem}"
        );
    }
    let known = server.post("/v1/jobs", &request(5)).send().await.unwrap();
    assert_eq!(known.status(), 200);
}

/// A models root with the demo's folder in it under another name.
fn models_root(folder: &Path) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mnist");
    for file in [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ] {
        let copy = folder.join("mine").join(file);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(demo.join(file), copy).unwrap();
    }
}

#[tokio::test]
async fn a_folder_under_the_models_root_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    models_root(folder.path());
    let root = folder.path().to_str().unwrap();
    let server = Server::start_as("sqlite::memory:", &["--models-root", root]);
    let (_, model) = json(server.get("/v1/models/mine").send().await.unwrap()).await;
    assert_eq!(model["denoiser"], true, "{model}");
    assert_eq!(model["prediction"], "epsilon");
    let (_, list) = json(server.get("/v1/models").send().await.unwrap()).await;
    let listed = list["models"].as_array().unwrap();
    assert!(listed.iter().any(|model| model["id"] == "mine"));

    let measured = json!({"samples": 8, "validation_samples": 8, "budget": 0});
    let body = calibration("mine", 4, &measured);
    let id = server.submit(&body).await;
    let job = server.job_in(&id, &["succeeded"], PATIENCE).await;
    let weights = job["request"]["calibrate"]["weights"].clone();
    assert_eq!(weights.as_str().unwrap().len(), 64);
    // Other weights are another request; the schedule of the old ones stays.
    let path = folder
        .path()
        .join("mine/unet/diffusion_pytorch_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_, changed) = json(
        server
            .post("/v1/jobs?dry_run=true", &body)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_ne!(changed["request"]["calibrate"]["weights"], weights);
    // A file that is no model any more is told of, and the server lives.
    std::fs::write(&path, b"broken").unwrap();
    let (status, problem) = json(server.post("/v1/jobs", &body).send().await.unwrap()).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("model_unusable")),
        "{problem}"
    );
    assert_eq!(
        server.get("/healthz/ready").send().await.unwrap().status(),
        200
    );
}

#[test]
fn the_command_line_calibrates_and_draws() {
    let fewstep = |arguments: &str| {
        let arguments = arguments.split(' ');
        let out = Command::new(env!("CARGO_BIN_EXE_fewstep"))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let flags = "--model mixture-2d --solver unipc --nfe 4 --calibrate --samples 16 --budget 40";
    let (code, table, _) = fewstep(&format!("compare {flags} --given mine=10,3,1,0.1"));
    assert_eq!(code, Some(0));
    let names: Vec<&str> = table
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    for name in ["calibrated", "hso", "hso-constrained", "karras", "mine"] {
        assert!(names.contains(&name), "{name} is not in\n{table}");
    }
    let (_, svg, _) = fewstep(&format!("compare {flags} --format svg"));
    assert!(svg.starts_with("<svg") && svg.contains("calibrated") && svg.ends_with("</svg>\n"));
    let (code, _, error) = fewstep(&format!("compare {flags} --given mine=10,3"));
    assert_eq!(code, Some(2));
    assert!(error.contains("4 evaluations"), "{error}");
    let (code, _, error) = fewstep(&format!("optimize {flags} --device cuda"));
    assert_eq!(code, Some(1));
    assert!(error.contains("--features cuda"), "{error}");
}

#[tokio::test]
async fn a_calibration_that_was_killed_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let measured = json!({"samples": 32, "validation_samples": 32, "budget": 40});
    let id = server
        .submit(&calibration("fashion-mnist", 4, &measured))
        .await;
    server.job_in(&id, &["running"], PATIENCE).await;
    server.kill();
    let restarted = Server::start(folder.path());
    let job = restarted.job_in(&id, &["succeeded"], PATIENCE).await;
    assert_eq!(job["attempts"], 2);
    assert_eq!(job["schedule"]["method"], "calibrated");
}
