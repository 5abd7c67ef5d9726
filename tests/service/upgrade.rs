//! A database made by an earlier version opens and keeps what it holds.

use crate::databases::sqlite;
use crate::support::{Server, json, request};
use serde_json::json;

#[tokio::test]
async fn a_database_of_schema_1_keeps_its_schedules() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let pool = sqlx::SqlitePool::connect(&format!("{url}?mode=rwc"))
        .await
        .unwrap();
    sqlx::raw_sql(include_str!("golden/schema_1.sql"))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;

    let server = Server::start(folder.path());
    let (status, job) = json(server.post("/v1/jobs", &request(5)).send().await.unwrap()).await;
    assert_eq!((status, &job["cached"]), (200, &json!(true)), "{job}");
    assert_eq!(job["id"], "01M85D846YZR38W26R5P9DWN89");
    for path in ["/v1/schedules/flux-schnell/euler/4", "/v1/models/mine"] {
        assert_eq!(
            server.get(path).send().await.unwrap().status(),
            200,
            "{path}"
        );
    }
    let inline = json!({"model": {"noise": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.014, "steps": 1100}},
                        "solver": "dpmpp_2m", "nfe": 6});
    let (_, job) = json(server.post("/v1/jobs", &inline).send().await.unwrap()).await;
    assert_eq!(job["cached"], true);
    assert_eq!(server.metric("fewstep_optimizations_total").await, 0.0);

    let (_, page) = json(server.get("/v1/jobs").send().await.unwrap()).await;
    let jobs = page["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 5);
    let failed = jobs.iter().find(|job| job["state"] == "failed").unwrap();
    assert_eq!(failed["error"]["detail"], "cannot be answered");
    assert_eq!(
        (&failed["model"], &failed["nfe"]),
        (&json!("sd-v2.1"), &json!(5))
    );
    assert!(jobs.iter().any(|job| job["state"] == "canceled"));
    // New work goes on beside the old.
    assert_eq!(
        server
            .post("/v1/jobs", &request(6))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}
