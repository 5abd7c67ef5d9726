//! The command line: exit codes, formats, environment twins, and the same schedule as the service.

use crate::support::{Server, json, request};
use serde_json::Value;
use std::process::{Command, Output};

fn fewstep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    command.args(arguments);
    command
}

fn run(arguments: &str) -> Output {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    fewstep(&arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn json_is_the_services_schedule() {
    let offline = run("optimize --model sd-v2.1 --solver unipc --nfe 5 --format json");
    let mut offline: Value = serde_json::from_str(&stdout(&offline)).unwrap();
    let server = Server::start_with("sqlite::memory:");
    let (_, job) = json(server.post("/v1/jobs", &request(5)).send().await.unwrap()).await;
    let mut served = job["schedule"].clone();
    for document in [&mut offline, &mut served] {
        document.as_object_mut().unwrap().remove("provenance");
    }
    assert_eq!(offline, served);
}

#[test]
fn flags_have_environment_twins() {
    let by_flag = run("optimize --model sdxl --solver ddim --nfe 6 --seed 7 --format text");
    let by_environment = fewstep(&["optimize"])
        .envs([
            ("FEWSTEP_MODEL", "sdxl"),
            ("FEWSTEP_SOLVER", "ddim"),
            ("FEWSTEP_NFE", "6"),
            ("FEWSTEP_SEED", "7"),
            ("FEWSTEP_FORMAT", "text"),
        ])
        .output()
        .unwrap();
    assert_eq!(stdout(&by_flag), stdout(&by_environment));
    let text = stdout(&by_flag);
    let timesteps = text
        .lines()
        .find_map(|line| line.strip_prefix("timesteps: "))
        .unwrap();
    assert_eq!(timesteps.split(", ").count(), 6);
}

#[test]
fn inline_noise_and_scheduler_configs_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("scheduler_config.json");
    std::fs::write(
        &config,
        r#"{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}"#,
    )
    .unwrap();
    let read = |output: Output| -> Value { serde_json::from_str(&stdout(&output)).unwrap() };
    let inline = read(run(
        "optimize --noise scaled_linear:0.00085:0.012:1000 --solver unipc --nfe 4 --format json",
    ));
    let from_file = read(run(&format!(
        "optimize --scheduler-config {} --solver unipc --nfe 4 --format json",
        config.display()
    )));
    assert_eq!(inline["id"], from_file["id"]);
    assert!(inline["model"].as_str().unwrap().starts_with("noise-"));
}

#[test]
fn wrong_requests_exit_with_2_and_failures_with_1() {
    let cases = [
        ("optimize --model nope --solver unipc --nfe 5", 2, "model"),
        (
            "optimize --model sd-v2.1 --solver unipc --nfe 0",
            2,
            "1 to 256",
        ),
        (
            "optimize --model sd-v2.1 --solver rk4 --nfe 5",
            2,
            "unknown solver",
        ),
        (
            "optimize --model sd-v2.1 --solver unipc --nfe 5 --bounds t_min=0.03:0.01",
            2,
            "reversed",
        ),
        (
            "optimize --noise linear:x:0.02 --solver unipc --nfe 5",
            2,
            "no number",
        ),
        (
            "optimize --scheduler-config /nowhere --solver unipc --nfe 5",
            1,
            "cannot read",
        ),
        ("migrate --database-url mysql://x", 1, "sqlite:PATH"),
        ("frobnicate", 2, "unrecognized"),
    ];
    for (arguments, code, message) in cases {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
        assert!(said.contains(message), "{arguments}: {said}");
    }
}

#[test]
fn models_compare_and_openapi_print() {
    assert!(stdout(&run("models")).contains("flux-schnell"));
    let models: Value = serde_json::from_str(&stdout(&run("models --format json"))).unwrap();
    assert!(models.as_array().unwrap().len() >= 25);
    let table = stdout(&run("compare --model sd-v2.1 --solver unipc --nfe 6"));
    assert!(table.contains("karras") && table.contains("hso"));
    assert!(stdout(&run("openapi")).starts_with("openapi: 3.1"));
}

#[test]
fn health_says_whether_the_service_answers() {
    let server = Server::start_with("sqlite::memory:");
    let listen = server.address();
    let healthy = fewstep(&["health", "--listen", &listen]).status().unwrap();
    assert!(healthy.success());
    drop(server);
    let gone = fewstep(&["health", "--listen", &listen]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("nothing listens"));
}

#[test]
fn migrate_makes_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let url = format!("sqlite:{}", path.display());
    assert!(
        fewstep(&["migrate", "--database-url", &url])
            .status()
            .unwrap()
            .success()
    );
    assert!(path.exists());
}
