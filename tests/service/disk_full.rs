//! A full disk: new jobs are refused, known schedules are served, and when there is room again everything goes on.
//!
//! The server's database lies on a small file system of its own, in a mount namespace that nobody else sees.

use crate::support::{Server, json, request};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// A server whose folder holds `size` bytes, and that folder as seen from here.
fn server_on_a_small_disk(folder: &std::path::Path, size: &str) -> (Server, PathBuf) {
    let mount = format!(
        "mount -t tmpfs -o size={size} tmpfs {folder} && exec {fewstep} serve --listen 127.0.0.1:0 --log error \
         --database-url sqlite:{folder}/fewstep.db",
        folder = folder.display(),
        fewstep = env!("CARGO_BIN_EXE_fewstep"),
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]);
    let server = Server::spawn(command);
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), folder.display()));
    (server, inside)
}

fn with_seed(seed: u64) -> Value {
    let mut body = request(4);
    body["seed"] = seed.into();
    body
}

/// Whether this machine lets us make a file system of our own; in CI it must.
fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .status();
    let can = tried.is_ok_and(|status| status.success());
    assert!(
        can || std::env::var_os("CI").is_none(),
        "no mount namespaces"
    );
    can
}

#[tokio::test]
async fn a_full_disk_refuses_new_jobs_and_serves_known_ones() {
    if !can_mount() {
        eprintln!("SKIPPED: this machine allows no mount namespaces");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, inside) = server_on_a_small_disk(folder.path(), "4m");
    assert_eq!(
        server
            .post("/v1/jobs", &request(5))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );

    let filler = inside.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    // The log may still have room from before.
    let mut accepted = Vec::new();
    let problem = loop {
        let response = server
            .post("/v1/jobs", &with_seed(accepted.len() as u64 + 1))
            .send();
        let (status, answer) = json(response.await.unwrap()).await;
        if status == 507 {
            break answer;
        }
        assert!(status == 200 || status == 202, "{status}: {answer}");
        accepted.push(answer["id"].as_str().unwrap().to_owned());
        assert!(accepted.len() < 1000, "the disk never filled");
    };
    assert_eq!(problem["code"], "database_full");
    let known = server
        .get("/v1/schedules/sd-v2.1/unipc/5")
        .send()
        .await
        .unwrap();
    assert_eq!(known.status(), 200);
    let known = server.post("/v1/jobs", &request(5)).send().await.unwrap();
    assert_eq!(known.status(), 200);

    drop(file);
    std::fs::remove_file(filler).unwrap();
    let (status, job) = json(server.post("/v1/jobs", &with_seed(0)).send().await.unwrap()).await;
    assert_eq!((status, &job["state"]), (200, &json!("succeeded")), "{job}");
    for id in accepted {
        server
            .job_in(&id, &["succeeded"], std::time::Duration::from_secs(30))
            .await;
    }
}
