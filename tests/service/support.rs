//! The real binary on a real socket and a real database file.

use crate::databases::sqlite;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `fewstep serve`; stopped when dropped.
pub struct Server {
    process: Child,
    base: String,
    client: Client,
}

impl Server {
    /// Starts on a free port with the database in `folder`.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(&sqlite(folder))
    }

    pub fn start_with(database_url: &str) -> Self {
        Self::start_as(database_url, &[])
    }

    /// The same with further flags.
    pub fn start_as(database_url: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"])
            .args(["--database-url", database_url])
            .args(flags);
        Self::spawn(command)
    }

    /// Starts a command that becomes a server.
    pub fn spawn(mut command: Command) -> Self {
        let (process, line) = spawn_and_read_line(&mut command);
        let base = line
            .strip_prefix("fewstep listening on ")
            .unwrap_or_else(|| panic!("the server said `{line}`"))
            .to_owned();
        Self {
            process,
            base,
            client: client(),
        }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        self.base.trim_start_matches("http://").to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).json(body)
    }

    /// A POST whose body is sent as it is.
    pub fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.post_as(path, "application/json", body)
    }

    /// The same under another content type.
    pub fn post_as(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> RequestBuilder {
        self.client
            .post(format!("{}{path}", self.base))
            .header("content-type", content_type)
            .body(body)
    }

    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("{}{path}", self.base))
    }

    /// The value of a metric, 0 where it was never counted.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self
            .get("/metrics")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Asks for a job without waiting for it; returns its id.
    pub async fn submit(&self, body: &Value) -> String {
        let asked = self
            .post("/v1/jobs", body)
            .header("prefer", "respond-async");
        let (status, job) = json(asked.send().await.unwrap()).await;
        assert!(status == 202 || status == 200, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    /// The job as it is now.
    pub async fn job(&self, id: &str) -> Value {
        let (status, job) = json(self.get(&format!("/v1/jobs/{id}")).send().await.unwrap()).await;
        assert_eq!(status, 200, "{job}");
        job
    }

    /// The job once it is in one of the states.
    pub async fn job_in(&self, id: &str, states: &[&str], patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let job = self.job(id).await;
            if states.contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(
                Instant::now() < deadline,
                "not {states:?} after {patience:?}: {job}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the process without warning.
    pub fn kill(&self) {
        let pid = self.pid().to_string();
        let killed = Command::new("kill").args(["-KILL", &pid]).status();
        assert!(killed.unwrap().success());
    }

    /// Sends SIGTERM and waits; returns the exit code and how long it took.
    pub fn stop(mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        let pid = self.process.id().to_string();
        Command::new("kill").arg(pid).status().unwrap();
        let status = self.process.wait().unwrap();
        (status.code(), asked.elapsed())
    }
}

/// Starts a process and waits for its first line.
fn spawn_and_read_line(command: &mut Command) -> (Child, String) {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (process, line.trim().to_owned())
}

/// A running `fewstep worker`; killed when dropped.
pub struct Worker {
    process: Child,
}

impl Worker {
    pub fn start(database_url: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
        command
            .args(["worker", "--log", "warn", "--database-url", database_url])
            .args(flags);
        let (process, line) = spawn_and_read_line(&mut command);
        assert_eq!(line, "fewstep working");
        Self { process }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client; the TLS it never uses needs a provider all the same.
fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(Duration::from_mins(1));
    client.build().unwrap()
}

/// Status and JSON body.
pub async fn json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
    (status, body)
}

/// A request that takes seconds: generations that no agreement ends.
pub fn long_request(nfe: u64, generations: u64) -> Value {
    let mut body = request(nfe);
    body["population"] = 100.into();
    body["tolerance"] = 0.into();
    body["generations"] = generations.into();
    body
}

/// The default request of the documentation.
pub fn request(nfe: u64) -> Value {
    serde_json::json!({"model": "sd-v2.1", "solver": "unipc", "nfe": nfe})
}

/// An event of a stream: its name, id and data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// Reads events until the stream ends or `enough` says so.
pub async fn events(
    server: &Server,
    id: &str,
    last: Option<&str>,
    enough: impl Fn(&Event) -> bool,
) -> Vec<Event> {
    let mut asked = server.get(&format!("/v1/jobs/{id}/events"));
    if let Some(last) = last {
        asked = asked.header("last-event-id", last);
    }
    let mut response = asked.send().await.unwrap();
    let mut events = Vec::new();
    if response.status() == 204 {
        return events;
    }
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((block, rest)) = text.split_once("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(data) = field("data: ") {
                events.push(Event {
                    name: field("event: ").unwrap().to_owned(),
                    id: field("id: ").unwrap().to_owned(),
                    data: serde_json::from_str(data).unwrap(),
                });
                if enough(events.last().unwrap()) {
                    return events;
                }
            }
            text = rest.to_owned();
        }
    }
    events
}
