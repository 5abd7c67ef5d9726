//! Webhooks as their receiver sees them: signed, repeated under the same id, never at private addresses unless allowed.

use crate::support::{Server, json, request};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A receiver that answers with `statuses`, then with 200, and passes on what it got.
async fn receiver(
    statuses: &'static [u16],
) -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (pass_on, received) = mpsc::unbounded_channel();
    let elsewhere = pass_on.clone();
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let handler = move |headers: HeaderMap, body: Bytes| {
        let call = answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        pass_on.send((headers, body)).unwrap();
        let status = statuses.get(call).copied().unwrap_or(200);
        async move {
            let location = [("location", "/elsewhere")];
            (StatusCode::from_u16(status).unwrap(), location).into_response()
        }
    };
    let router = Router::new()
        .route("/hook", post(handler))
        // What follows the redirect shows as a call without a signature.
        .fallback(move |headers: HeaderMap| {
            elsewhere.send((headers, Bytes::new())).unwrap();
            std::future::ready(StatusCode::OK)
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn with_webhook(nfe: u64, url: &str) -> Value {
    let mut body = request(nfe);
    body["webhook"] = url.into();
    body
}

async fn next(received: &mut mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) -> (HeaderMap, Bytes) {
    let call = tokio::time::timeout(Duration::from_secs(20), received.recv());
    call.await.expect("no call came").unwrap()
}

#[tokio::test]
async fn calls_are_signed_and_repeated_until_they_are_taken() {
    let (url, mut received) = receiver(&[302]).await;
    let flags = ["--webhook-secret", SECRET, "--webhook-allow-private"];
    let server = Server::start_as("sqlite::memory:", &flags);
    let (status, job) = json(
        server
            .post("/v1/jobs", &with_webhook(5, &url))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, 200, "{job}");

    let first = next(&mut received).await;
    let second = next(&mut received).await;
    assert_eq!(first.0["webhook-id"], second.0["webhook-id"]);
    let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
    for (headers, body) in [first, second] {
        verifier.verify(&body, &headers).unwrap();
        let payload: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(payload["type"], "job.succeeded");
        assert_eq!(payload["data"]["id"], job["id"]);
        assert_eq!(payload["data"]["schedule"], job["schedule"]);
    }
    // A request that is known already calls as well, once.
    server
        .post("/v1/jobs", &with_webhook(5, &url))
        .send()
        .await
        .unwrap();
    let (_, body) = next(&mut received).await;
    let payload: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(payload["data"]["id"], job["id"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(received.try_recv().is_err());
}

#[tokio::test]
async fn only_public_addresses_are_taken_unless_told_otherwise() {
    let server = Server::start_as("sqlite::memory:", &["--webhook-secret", SECRET]);
    let urls = [
        "http://127.0.0.1:9/hook",
        "http://localhost/hook",
        "http://[::1]/hook",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://0x7f000001/",
        "file:///etc/passwd",
        "nonsense",
    ];
    for url in urls {
        let response = server
            .post("/v1/jobs", &with_webhook(5, url))
            .send()
            .await
            .unwrap();
        let (status, problem) = json(response).await;
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (422, &json!("/webhook")),
            "{url}"
        );
    }
    let silent = Server::start_with("sqlite::memory:");
    let response = silent
        .post("/v1/jobs", &with_webhook(5, "https://example.com"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 422);
}
