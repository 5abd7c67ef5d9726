//! Calls to those who want to know that a job has ended, signed as the Standard Webhooks specification says.
//!
//! The calls to make are rows of the store's outbox, due from the transaction that ends the job on; a call that fails is
//! repeated with growing pauses by whichever process comes first, under the same id. The receiver's address must be a
//! public one unless the operator allows others, redirects are not followed, and answers are not read.

mod address;

use crate::jobs::document;
use crate::store::operations::{Attempt, SettleDelivery, TakeDelivery};
use crate::store::{Change, Delivery, Store, StoreError, heard};
use address::{Public, is_public};
use reqwest::{Client, StatusCode, Url, redirect};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longest URL taken.
const MAX_URL: usize = 2048;
/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call belongs to who took it; longer than any call.
const HOLD_MS: i64 = 60_000;
/// Calls under way at a time.
const CALLERS: usize = 4;
/// How often the outbox is looked at, in case nobody told.
const LOOK: Duration = Duration::from_secs(2);
/// Pauses before the second and further attempts, as Standard Webhooks recommends.
const PAUSES_S: [i64; 6] = [5, 300, 1_800, 7_200, 18_000, 36_000];

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Base64 of the signing key, with or without the prefix `whsec_`.
    pub secret: String,
    /// Whether receivers may have loopback, private and other addresses that are not public.
    pub allow_private: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("the webhook secret is no base64: use `whsec_` and 24 to 64 bytes in base64")]
    Secret,
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Checks receivers and calls them.
#[derive(Clone)]
pub struct Webhooks {
    store: Arc<dyn Store>,
    client: Client,
    signer: Arc<standardwebhooks::Webhook>,
    allow_private: bool,
}

impl Webhooks {
    pub fn new(store: Arc<dyn Store>, settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let signer =
            standardwebhooks::Webhook::new(&settings.secret).map_err(|_| WebhookError::Secret)?;
        // Refused only when one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("fewstep/", env!("CARGO_PKG_VERSION")));
        if !settings.allow_private {
            client = client.dns_resolver(Arc::new(Public));
        }
        Ok(Self {
            store,
            client: client.build()?,
            signer: Arc::new(signer),
            allow_private: settings.allow_private,
        })
    }

    /// Whether a URL may be called; says what is wrong with it otherwise.
    pub fn check(&self, url: &str) -> Result<(), String> {
        if url.len() > MAX_URL {
            return Err(format!("must have at most {MAX_URL} characters"));
        }
        let url = Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("must be an https or http URL".to_owned());
        }
        let host = url.host_str().unwrap_or_default();
        let literal: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        let is_local = host == "localhost" || literal.is_ok_and(|address| !is_public(address));
        if is_local && !self.allow_private {
            return Err("must have a public address".to_owned());
        }
        Ok(())
    }

    /// Makes calls until told to stop.
    #[must_use]
    pub fn start(&self) -> Callers {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for _ in 0..CALLERS {
            tasks.spawn(self.clone().call_all(stop.subscribe()));
        }
        Callers { tasks, stop }
    }

    async fn call_all(self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.store.changes();
        while !*stop.borrow() {
            match self.store.run(TakeDelivery { hold: HOLD_MS }).await {
                Ok(Some(delivery)) => {
                    if let Err(error) = self.deliver(delivery).await {
                        tracing::warn!(%error, "a webhook could not be settled; it will be called again");
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the outbox could not be read"),
            }
            tokio::select! {
                () = heard(&mut changes, |change| *change == Change::DeliveryDue) => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) -> Result<(), StoreError> {
        let attempt = match self.store.job(&delivery.job_id).await? {
            None => Attempt::GivenUp {
                error: "the job is gone".to_owned(),
            },
            Some(job) => {
                let document = document(&job);
                let payload = serde_json::json!({
                    "type": format!("job.{}", job.status.state.as_str()),
                    "timestamp": job.finished_at,
                    "data": document,
                });
                self.call(&delivery, payload.to_string()).await
            }
        };
        let outcome = match &attempt {
            Attempt::Delivered => "delivered",
            Attempt::Again { .. } => "again",
            Attempt::GivenUp { .. } => "given_up",
        };
        metrics::counter!("fewstep_webhooks_total", "outcome" => outcome).increment(1);
        tracing::info!(
            webhook = delivery.id,
            job = delivery.job_id,
            ?attempt,
            "webhook"
        );
        self.store.run(SettleDelivery { delivery, attempt }).await
    }

    async fn call(&self, delivery: &Delivery, payload: String) -> Attempt {
        if let Err(error) = self.check(&delivery.url) {
            return Attempt::GivenUp { error };
        }
        let now = jiff::Timestamp::now().as_second();
        let signature = match self.signer.sign(&delivery.id, now, payload.as_bytes()) {
            Ok(signature) => signature,
            Err(error) => return again(delivery, error.to_string()),
        };
        let called = self
            .client
            .post(&delivery.url)
            .header("content-type", "application/json")
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .body(payload)
            .send()
            .await;
        match called {
            Ok(answer) if answer.status().is_success() => Attempt::Delivered,
            Ok(answer) if answer.status() == StatusCode::GONE => Attempt::GivenUp {
                error: "the receiver answered 410: it is gone".to_owned(),
            },
            Ok(answer) => again(
                delivery,
                format!("the receiver answered {}", answer.status()),
            ),
            Err(error) => again(delivery, error.without_url().to_string()),
        }
    }
}

fn again(delivery: &Delivery, error: String) -> Attempt {
    let made = usize::try_from(delivery.attempts).unwrap_or(usize::MAX);
    match PAUSES_S.get(made.saturating_sub(1)) {
        Some(seconds) => Attempt::Again {
            pause: seconds * 1_000,
            error,
        },
        None => Attempt::GivenUp { error },
    }
}

/// The tasks that make calls.
pub struct Callers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Callers {
    /// Takes no further calls. Those under way are dropped: they are made again.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        self.tasks.abort_all();
    }
}
