//! Stable Diffusion folders as a user has them: named in a request with prompts, followed, remembered, changed, and broken.

use crate::support::{Server, events, json};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(5);
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/stable_diffusion")
        .join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A models root with the tiny pipeline `case` under the name `mine`.
fn root(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(case), &folder.path().join("mine"));
    folder
}

fn serve(root: &Path, flags: &[&str]) -> Server {
    let root = root.to_str().unwrap();
    Server::start_as(
        "sqlite::memory:",
        &[&["--models-root", root], flags].concat(),
    )
}

fn request(calibrate: &Value) -> Value {
    let mut all = json!({"samples": 4, "validation_samples": 4, "budget": 30});
    for (field, value) in calibrate.as_object().unwrap() {
        all[field] = value.clone();
    }
    json!({"model": "mine", "solver": "unipc", "nfe": 4, "calibrate": all})
}

async fn refusal(server: &Server, body: &Value) -> String {
    let (status, problem) = json(server.post("/v1/jobs", body).send().await.unwrap()).await;
    assert_eq!(status, 422, "{problem}");
    problem.to_string()
}

#[tokio::test]
async fn a_pipeline_is_calibrated_with_its_prompts_and_remembered() {
    let root = root("sd21");
    let server = serve(root.path(), &[]);
    let (_, model) = json(server.get("/v1/models/mine").send().await.unwrap()).await;
    assert_eq!(model["prediction"], "v_prediction", "{model}");
    assert_eq!(
        (&model["denoiser"], &model["prompts"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(model["runtime"]["device"], "cpu");
    assert_eq!(model["runtime"]["dtype"], "f32");
    assert_eq!(model["runtime"]["loaded"], false);
    assert!(model["runtime"]["memory_bytes"].as_u64().unwrap() > 100_000);

    let prompted = json!({"prompts": ["a red fox", "the sea"], "negative_prompt": "blurry", "guidance_scale": 7.5, "pictures": 2});
    let id = server.submit(&request(&prompted)).await;
    let told = events(&server, &id, None, |_| false).await;
    let progress: Vec<Value> = told
        .iter()
        .filter(|event| event.name == "progress")
        .map(|event| event.data.clone())
        .collect();
    if let Some(last) = progress.last() {
        assert!(last["batches"].as_u64().is_some(), "{last}");
    }
    let job = server.job_in(&id, &["succeeded"], PATIENCE).await;
    let calibrate = &job["request"]["calibrate"];
    assert_eq!(calibrate["prompts"], prompted["prompts"]);
    assert_eq!(calibrate["guidance_scale"], 7.5);
    assert!(job["schedule"]["error"]["value"].as_f64().unwrap() > 0.0);
    let (_, model) = json(server.get("/v1/models/mine").send().await.unwrap()).await;
    assert_eq!(model["runtime"]["loaded"], true);

    let path = format!("/v1/schedules/{}", job["schedule"]["id"].as_str().unwrap());
    let (_, schedule) = json(server.get(&path).send().await.unwrap()).await;
    assert_eq!(schedule["sigmas"], job["schedule"]["sigmas"]);
    let again = server.post("/v1/jobs", &request(&prompted)).send().await;
    let (status, again) = json(again.unwrap()).await;
    assert_eq!((status, &again["cached"]), (200, &json!(true)));

    let pictures = schedule["calibration"]["pictures"].as_array().unwrap();
    assert!(pictures.len() >= 3, "{pictures:?}");
    assert_eq!(
        (&pictures[0]["name"], &pictures[0]["error"]),
        (&json!("reference"), &Value::Null)
    );
    assert!(pictures[1]["error"]["value"].as_f64().unwrap() > 0.0);
    let drawn = server
        .get(&format!("{path}/pictures.svg"))
        .send()
        .await
        .unwrap();
    assert_eq!(drawn.headers()["content-type"], "image/svg+xml");
    let drawn = drawn.text().await.unwrap();
    assert_eq!(drawn.matches("<image ").count(), 2 * pictures.len());

    // Other prompts, and other weights, are other requests.
    let asked = |body: Value| {
        let sent = server.post("/v1/jobs?dry_run=true", &body).send();
        async { json(sent.await.unwrap()).await.1 }
    };
    let digest = job["digest"].clone();
    let mut other = prompted.clone();
    other["prompts"] = json!(["a red fox"]);
    assert_ne!(asked(request(&other)).await["digest"], digest);
    assert_eq!(asked(request(&prompted)).await["digest"], digest);
    let weights = root.path().join("mine").join(UNET);
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert_ne!(asked(request(&prompted)).await["digest"], digest);
}

#[tokio::test]
async fn prompts_have_defaults_and_limits() {
    let root = root("xl");
    let server = serve(root.path(), &[]);
    let asked = server.post("/v1/jobs?dry_run=true", &request(&json!({})));
    let (_, asked) = json(asked.send().await.unwrap()).await;
    let calibrate = &asked["request"]["calibrate"];
    assert_eq!(calibrate["prompts"].as_array().unwrap().len(), 16);
    assert_eq!(calibrate["guidance_scale"], 5.0);
    for (wrong, field) in [
        (json!({"prompts": []}), "/calibrate/prompts"),
        (json!({"prompts": vec!["a"; 65]}), "/calibrate/prompts"),
        (
            json!({"prompts": ["x".repeat(2001)]}),
            "/calibrate/prompts/0",
        ),
        (json!({"class_labels": [0]}), "/calibrate/class_labels"),
    ] {
        let refused = refusal(&server, &request(&wrong)).await;
        assert!(refused.contains(field), "{refused}");
    }
    let mut mixture = request(&json!({"prompts": ["a"]}));
    mixture["model"] = json!("mixture-2d");
    assert!(
        refusal(&server, &mixture)
            .await
            .contains("takes no prompts")
    );
}

/// As the Hugging Face cache lays models out: links from a revision's names to blobs.
#[tokio::test]
async fn the_hugging_face_cache_is_a_models_root() {
    let folder = tempfile::tempdir().unwrap();
    let cached = folder.path().join("models--someone--mine");
    let snapshot = cached.join("snapshots/0123abc");
    copy(&golden("sd15"), &snapshot);
    fs::create_dir_all(cached.join("refs")).unwrap();
    fs::create_dir_all(cached.join("blobs")).unwrap();
    fs::write(cached.join("refs/main"), "0123abc\n").unwrap();
    fs::rename(snapshot.join(UNET), cached.join("blobs/f00d")).unwrap();
    symlink("../../../blobs/f00d", snapshot.join(UNET)).unwrap();
    let server = serve(folder.path(), &[]);
    let (_, list) = json(server.get("/v1/models").send().await.unwrap()).await;
    let listed = list["models"].as_array().unwrap();
    assert!(
        listed.iter().any(|model| model["id"] == "someone--mine"),
        "{list}"
    );
    let mut body = request(&json!({"prompts": ["a fox"]}));
    body["model"] = json!("someone--mine");
    let id = server.submit(&body).await;
    server.job_in(&id, &["succeeded"], PATIENCE).await;
}

#[tokio::test]
async fn what_does_not_fit_the_device_is_refused_with_the_figure() {
    let root = root("sd15");
    let server = serve(root.path(), &["--device-memory", "0.0001"]);
    let id = server.submit(&request(&json!({}))).await;
    let job = server.job_in(&id, &["failed"], PATIENCE).await;
    assert_eq!(job["error"]["code"], "model-too-large", "{job}");
    let detail = job["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("GiB of memory on cpu"), "{detail}");
}

/// Every way a folder can be broken is told, and the server lives.
#[tokio::test]
async fn broken_pipelines_are_refused_by_what_is_wrong() {
    type Breaking = (&'static str, fn(&Path));
    let break_it: [Breaking; 9] = [
        ("can run code", |mine| {
            fs::rename(
                mine.join(UNET),
                mine.join("unet/diffusion_pytorch_model.bin"),
            )
            .unwrap();
        }),
        ("can run code", |mine| {
            fs::rename(mine.join(UNET), mine.join("unet/model.ckpt")).unwrap();
        }),
        ("header claims", |mine| {
            fs::write(mine.join(UNET), [0xff; 64]).unwrap();
        }),
        ("make up", |mine| {
            let bytes = fs::read(mine.join(UNET)).unwrap();
            fs::write(mine.join(UNET), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("leads out", |mine| {
            let outside = golden("sd15").join(UNET);
            fs::remove_file(mine.join(UNET)).unwrap();
            symlink(outside, mine.join(UNET)).unwrap();
        }),
        ("time_cond_proj_dim", |mine| {
            set(mine, "unet/config.json", "time_cond_proj_dim", &json!(256));
        }),
        ("encoder_hid_dim", |mine| {
            set(mine, "unet/config.json", "encoder_hid_dim", &json!(4096));
        }),
        ("_class_name", |mine| {
            set(
                mine,
                "model_index.json",
                "_class_name",
                &json!("StableDiffusionInpaintPipeline"),
            );
        }),
        ("tokenizer_config.json is missing", |mine| {
            fs::remove_file(mine.join("tokenizer/tokenizer_config.json")).unwrap();
        }),
    ];
    for (sign, break_it) in break_it {
        let root = root("sd15");
        break_it(&root.path().join("mine"));
        let server = serve(root.path(), &[]);
        let refused = refusal(&server, &request(&json!({}))).await;
        assert!(
            refused.contains("model_unusable") && refused.contains(sign),
            "{sign}: {refused}"
        );
        let plain = json!({"model": "mixture-2d", "solver": "unipc", "nfe": 4});
        server
            .job_in(&server.submit(&plain).await, &["succeeded"], PATIENCE)
            .await;
    }
}

/// What only building the network finds fails the job, and the next one runs.
#[tokio::test]
async fn weights_of_another_network_fail_the_job_alone() {
    for (field, value, sign) in [
        ("layers_per_block", json!(2), "lack `"),
        ("cross_attention_dim", json!(16), "has shape"),
        ("use_linear_projection", json!(true), "has shape"),
        ("mid_block_type", Value::Null, "no use for"),
    ] {
        let root = root("sd15");
        set(&root.path().join("mine"), "unet/config.json", field, &value);
        let server = serve(root.path(), &[]);
        let id = server.submit(&request(&json!({}))).await;
        let job = server.job_in(&id, &["failed"], PATIENCE).await;
        assert_eq!(job["error"]["code"], "model-unusable", "{job}");
        let detail = job["error"]["detail"].as_str().unwrap();
        assert!(
            detail.contains("unet: ") && detail.contains(sign),
            "{detail}"
        );
        let plain = json!({"model": "mixture-2d", "solver": "unipc", "nfe": 4, "calibrate": {}});
        server
            .job_in(&server.submit(&plain).await, &["succeeded"], PATIENCE)
            .await;
    }
}

fn set(mine: &Path, file: &str, field: &str, value: &Value) {
    let path = mine.join(file);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[field] = value.clone();
    fs::write(path, config.to_string()).unwrap();
}
