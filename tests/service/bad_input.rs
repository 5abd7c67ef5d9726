//! Whatever comes in, the answer is a problem document that names the field, and the server goes on.

use crate::support::{Server, json, request};
use serde_json::json;

/// Bodies with the status and the pointer of the first wrong field that they must be answered with.
fn wrong_bodies() -> Vec<(String, u16, &'static str)> {
    let with = |field: &str, value: serde_json::Value| {
        let mut body = request(5);
        body[field] = value;
        body.to_string()
    };
    let noise = |noise: serde_json::Value| with("model", json!({"noise": noise}));
    vec![
        (with("nfe", json!(0)), 422, "/nfe"),
        (with("nfe", json!(1_000_000_000)), 422, "/nfe"),
        (with("nfe", json!(-5)), 422, "/nfe"),
        (with("nfe", json!(4.5)), 422, "/nfe"),
        (with("nfe", json!(null)), 422, "/nfe"),
        (
            r#"{"model": "sd-v2.1", "solver": "unipc", "nfe": NaN}"#.to_owned(),
            400,
            "/nfe",
        ),
        (with("model", json!("sd-9")), 422, "/model"),
        (with("model", json!({"id": "sd-9"})), 422, "/model/id"),
        (
            with("model", json!({"id": "sd-v1.5", "width": 64})),
            422,
            "/model/width",
        ),
        (with("model", json!({})), 422, "/model"),
        (with("solver", json!("heunn")), 422, "/solver"),
        (
            with("solver", json!({"name": "unipc", "order": 9})),
            422,
            "/solver/order",
        ),
        (
            with("solver", json!({"name": "ddim", "order": 2})),
            422,
            "/solver/order",
        ),
        (
            with("bounds", json!({"t_min": [0.03, 0.01]})),
            422,
            "/bounds/t_min",
        ),
        (
            with("bounds", json!({"t_max": [0.0, 0.02]})),
            422,
            "/bounds/t_max",
        ),
        (
            with("bounds", json!({"rho": [-1.0, 7.0]})),
            422,
            "/bounds/rho",
        ),
        (with("gamma", json!(-1.0)), 422, "/gamma"),
        (with("seed", json!(u64::MAX)), 422, "/seed"),
        (with("population", json!(100_000)), 422, "/population"),
        (with("generations", json!(0)), 422, "/generations"),
        (with("start_sigma", json!(1e9)), 422, "/start_sigma"),
        (with("resample", json!(true)), 422, "/resample"),
        (with("priority", json!(10)), 422, "/priority"),
        (
            with("webhook", json!("https://example.com")),
            422,
            "/webhook",
        ),
        (with("typo", json!(1)), 422, "/typo"),
        (
            noise(json!({"kind": "linear", "beta_start": 0.1})),
            422,
            "/model/noise/beta_end",
        ),
        (
            noise(json!({"kind": "edm", "sigma_min": 1, "sigma_max": 2, "betas": []})),
            422,
            "/model/noise/betas",
        ),
        (
            noise(json!({"kind": "alphas_cumprod", "alphas_cumprod": [0.5, 0.9]})),
            422,
            "/model/noise/alphas_cumprod",
        ),
        (noise(json!({"kind": "cubic"})), 422, "/model/noise/kind"),
        (r#"{"model": "sd-v2.1", "#.to_owned(), 400, ""),
        ("[".repeat(1000), 400, ""),
        (String::new(), 400, ""),
    ]
}

#[tokio::test]
async fn bad_requests_are_refused_by_the_name_of_their_field() {
    let server = Server::start_with("sqlite::memory:");
    for (body, status, pointer) in wrong_bodies() {
        let response = server
            .post_raw("/v1/jobs", body.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{body}"
        );
        let id = response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        let (got, problem) = json(response).await;
        assert_eq!(got, status, "{body}: {problem}");
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{body}: {problem}"
        );
        assert_eq!(problem["request_id"], id.as_str());
        assert_eq!(problem["status"], status);
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn several_wrong_fields_are_all_named() {
    let server = Server::start_with("sqlite::memory:");
    let mut body = request(5);
    body["gamma"] = json!(-1);
    body["tolerance"] = json!(7);
    let (_, problem) = json(server.post("/v1/jobs", &body).send().await.unwrap()).await;
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/gamma", "/tolerance"]);
}

#[tokio::test]
async fn wrong_envelopes_are_problems_too() {
    let server = Server::start_with("sqlite::memory:");
    let cases = [
        (
            server.post_raw("/v1/jobs", vec![b' '; 1024 * 1024]),
            413,
            "body_too_large",
        ),
        (
            server.post_as("/v1/jobs", "text/plain", "{}"),
            415,
            "unsupported_media_type",
        ),
        (
            server.post_raw("/v1/jobs?dry_run=maybe", "{}"),
            400,
            "invalid_query",
        ),
        (
            server.post_raw("/v1/jobs?dry=1", "{}"),
            400,
            "invalid_query",
        ),
        (server.get("/v1/jobs/a%00b"), 400, "invalid_path"),
        (server.get("/v1/jobs?model=%00"), 400, "invalid_query"),
        (server.get("/v1/nothing"), 404, "not_found"),
        (server.get("/v1/jobs/none"), 404, "not_found"),
        (server.get("/v1/models/none"), 404, "not_found"),
        (server.get("/v1/schedules/none"), 404, "not_found"),
        (
            server.get("/v1/schedules/sd-v2.1/unipc/0"),
            404,
            "not_found",
        ),
        (
            server.get("/v1/schedules/sd-v2.1/runge/5"),
            404,
            "not_found",
        ),
        (server.get("/v1/schedules/none/unipc/5"), 404, "not_found"),
        (server.delete("/v1/jobs"), 405, "method_not_allowed"),
    ];
    for (request, status, code) in cases {
        let (got, problem) = json(request.send().await.unwrap()).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
        assert_eq!(problem["type"], format!("/problems/{code}"));
    }
    still_serves(&server).await;
}

async fn still_serves(server: &Server) {
    assert_eq!(
        server.get("/healthz/ready").send().await.unwrap().status(),
        200
    );
    let response = server.post("/v1/jobs", &request(4)).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
