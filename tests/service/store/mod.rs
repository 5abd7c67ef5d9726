//! What every store must do. Written once, run on each database.

use crate::databases::{Postgres, sqlite};
use fewstep::lifecycle::{DeviceKind, Policy, State, Work};
use fewstep::store::operations::{Beat, Claim, Enqueue, Enqueued, Finish, Held};
use fewstep::store::{
    self, Change, Claimed, Failure, JobOutcome, NewJob, ScheduleRecord, Store, StoreError,
};
use std::sync::Arc;
use std::time::Duration;

const POLICY: Policy = Policy {
    lease: 60_000,
    attempts: 3,
    backoff: 0,
};
/// A lease that has run out as soon as it was given.
const NO_LEASE: Policy = Policy {
    lease: -1,
    ..POLICY
};

/// Runs a conformance test on every database.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    let folder = tempfile::tempdir().unwrap();
                    super::$test(crate::store::open(&crate::databases::sqlite(folder.path())).await).await;
                    super::$test(crate::store::open("sqlite::memory:").await).await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if let Some(database) = crate::databases::Postgres::create().await {
                        super::$test(crate::store::open(&database.url()).await).await;
                    }
                }
            )*
        }
    };
}

mod queue;
mod records;

async fn open(url: &str) -> Arc<dyn Store> {
    store::open(url).await.unwrap()
}

fn job(id: &str, digest: &str) -> NewJob {
    NewJob {
        id: id.to_owned(),
        digest: digest.to_owned(),
        model: "sd-v2.1".to_owned(),
        solver: "unipc".to_owned(),
        nfe: 5,
        request: "{}".to_owned(),
        work: Work::Proxy,
        priority: 0,
        created_at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn schedule(id: &str) -> ScheduleRecord {
    ScheduleRecord {
        id: id.to_owned(),
        model: "sd-v2.1".to_owned(),
        solver: "unipc".to_owned(),
        nfe: 5,
        method: "hso".to_owned(),
        document: format!("{{\"id\": \"{id}\"}}"),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

async fn enqueue(store: &dyn Store, job: NewJob) -> Enqueued {
    let enqueue = Enqueue {
        job,
        key: None,
        webhook: None,
        has_room: true,
    };
    store.run(enqueue).await.unwrap()
}

async fn claim_with(store: &dyn Store, policy: Policy) -> Option<Claimed> {
    let claim = Claim {
        worker: "w".to_owned(),
        device: DeviceKind::Cpu,
        policy,
    };
    store.run(claim).await.unwrap()
}

async fn claim(store: &dyn Store) -> Option<Claimed> {
    claim_with(store, POLICY).await
}

async fn finish(store: &dyn Store, job: &Claimed, outcome: JobOutcome) -> bool {
    let (job, epoch) = (job.id.clone(), job.epoch);
    store
        .run(Finish {
            job,
            epoch,
            outcome,
        })
        .await
        .unwrap()
}

fn success(id: &str) -> JobOutcome {
    JobOutcome::Succeeded {
        schedule: schedule(id),
    }
}

fn failure(code: &str) -> JobOutcome {
    JobOutcome::Failed(Failure {
        code: code.to_owned(),
        detail: "no".to_owned(),
    })
}

async fn beat(store: &dyn Store, job: &Claimed, progress: Option<&str>) -> Held {
    let beat = Beat {
        job: job.id.clone(),
        epoch: job.epoch,
        progress: progress.map(str::to_owned),
        policy: POLICY,
    };
    store.run(beat).await.unwrap()
}

async fn state(store: &dyn Store, id: &str) -> State {
    store.job(id).await.unwrap().unwrap().status.state
}

/// Two stores on one database, as two servers have.
#[tokio::test(flavor = "multi_thread")]
async fn servers_hear_of_each_other() {
    let Some(database) = Postgres::create().await else {
        return;
    };
    let (here, there) = (open(&database.url()).await, open(&database.url()).await);
    let mut changes = there.changes();
    // The listener needs a moment to connect; notifications before that are nobody's.
    for attempt in 0.. {
        enqueue(&*here, job(&attempt.to_string(), &attempt.to_string())).await;
        let heard = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
        if let Ok(heard) = heard {
            assert_eq!(heard.unwrap(), Change::Queued);
            return;
        }
        assert!(attempt < 50, "the other server never heard of anything");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    open(&url).await.close().await;
    let from_the_future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                           VALUES (9999, 'from the future', true, $1, 0)";
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let inserted = sqlx::query(from_the_future).bind(vec![0_u8]).execute(&pool);
    inserted.await.unwrap();
    pool.close().await;
    refused_as_newer(&url).await;
    if let Some(database) = Postgres::create().await {
        open(&database.url()).await.close().await;
        let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
        let inserted = sqlx::query(from_the_future).bind(vec![0_u8]).execute(&pool);
        inserted.await.unwrap();
        pool.close().await;
        refused_as_newer(&database.url()).await;
    }
}

async fn refused_as_newer(url: &str) {
    match store::open(url).await {
        Err(error @ StoreError::NewerSchema { found: 9999, .. }) => {
            assert!(error.to_string().contains("run the newer fewstep"));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a newer schema was opened"),
    }
}

#[tokio::test]
async fn unknown_urls_are_refused() {
    for url in ["mysql://localhost/x", "fewstep.db"] {
        let error = store::open(url).await.err().unwrap().to_string();
        assert!(error.contains("sqlite:PATH"), "{error}");
    }
}
