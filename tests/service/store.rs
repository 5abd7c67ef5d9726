//! What every store must do. Written once, run on each database.

use crate::databases::{Postgres, sqlite};
use fewstep::lifecycle::{DeviceKind, Policy, State, Work};
use fewstep::store::operations::{
    Attempt, Beat, Cancel, Canceled, Claim, Enqueue, Enqueued, Finish, ForgetWorkers, Held,
    IdempotencyKey, Prune, PutModel, Release, SeeWorker, SettleDelivery, Stored, Sweep,
    TakeDelivery,
};
use fewstep::store::{
    self, Change, Claimed, Failure, JobFilter, JobOutcome, ModelRecord, NewJob, ScheduleFilter,
    ScheduleRecord, Store, StoreError,
};
use std::collections::HashSet;
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
                    super::$test(super::open(&super::sqlite(folder.path())).await).await;
                    super::$test(super::open("sqlite::memory:").await).await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if let Some(database) = super::Postgres::create().await {
                        super::$test(super::open(&database.url()).await).await;
                    }
                }
            )*
        }
    };
}

on_every_store! {
    a_job_is_accepted_claimed_and_answered_once,
    digests_have_one_live_job,
    a_full_queue_finds_what_exists_and_takes_nothing_new,
    a_job_that_is_being_canceled_is_not_joined,
    a_worker_that_lost_its_lease_changes_nothing,
    jobs_that_kill_their_workers_are_given_up,
    a_released_job_keeps_its_attempts,
    cancellation_ends_waiting_jobs_and_asks_running_ones,
    the_queue_goes_by_priority_and_waiting,
    work_goes_to_the_device_it_is_meant_for,
    keys_stand_for_their_first_request,
    webhooks_become_due_with_their_jobs,
    jobs_are_listed_newest_first,
    old_rows_are_deleted_and_answers_kept,
    models_and_schedules_are_kept,
    workers_in_a_race_never_share_a_job,
    changes_are_heard_of,
}

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

async fn a_job_is_accepted_claimed_and_answered_once(store: Arc<dyn Store>) {
    let store = &*store;
    store.ping().await.unwrap();
    assert!(claim(store).await.is_none());
    let Enqueued::Accepted(accepted) = enqueue(store, job("j1", "d1")).await else {
        panic!("a new job was not accepted");
    };
    assert_eq!(store.job("j1").await.unwrap().unwrap(), accepted);
    assert_eq!(store.load().await.unwrap().queued, 1);

    let claimed = claim(store).await.unwrap();
    assert_eq!((claimed.id.as_str(), claimed.attempt), ("j1", 1));
    assert_eq!(store.load().await.unwrap().running, 1);
    assert_eq!(beat(store, &claimed, Some("{\"x\":1}")).await, Held::Yes);
    let running = store.job("j1").await.unwrap().unwrap();
    assert_eq!(running.progress.as_deref(), Some("{\"x\":1}"));
    assert_eq!(running.outcome, None);

    assert!(finish(store, &claimed, success("s1")).await);
    assert!(!finish(store, &claimed, failure("late")).await);
    let ended = store.job("j1").await.unwrap().unwrap();
    assert_eq!(ended.outcome, Some(success("s1")));
    assert!(ended.finished_at.is_some() && ended.progress.is_none());
    assert_eq!(store.job_of_digest("d1").await.unwrap(), Some(ended));
    assert_eq!(store.schedule("s1").await.unwrap(), Some(schedule("s1")));
    assert_eq!(store.load().await.unwrap(), store::Load::default());
}

async fn digests_have_one_live_job(store: Arc<dyn Store>) {
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    let is_first = |answer: Enqueued| matches!(answer, Enqueued::Existing(job) if job.id == "j1");
    assert!(is_first(enqueue(store, job("j2", "d1")).await));
    let claimed = claim(store).await.unwrap();
    assert!(is_first(enqueue(store, job("j3", "d1")).await));
    finish(store, &claimed, success("s1")).await;
    assert!(is_first(enqueue(store, job("j4", "d1")).await));
    // A failure is no answer: the next request tries again.
    enqueue(store, job("j5", "d5")).await;
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, failure("no")).await;
    assert_eq!(store.job_of_digest("d5").await.unwrap(), None);
    assert!(matches!(
        enqueue(store, job("j6", "d5")).await,
        Enqueued::Accepted(_)
    ));
    assert_eq!(
        store.job("j5").await.unwrap().unwrap().outcome,
        Some(failure("no"))
    );
    assert_eq!(store.job("j2").await.unwrap(), None);
}

async fn a_full_queue_finds_what_exists_and_takes_nothing_new(store: Arc<dyn Store>) {
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    let when_full = async |id: &str, digest: &str| {
        let enqueue = Enqueue {
            job: job(id, digest),
            key: None,
            webhook: None,
            has_room: false,
        };
        store.run(enqueue).await.unwrap()
    };
    assert!(matches!(when_full("j2", "d1").await, Enqueued::Existing(job) if job.id == "j1"));
    assert_eq!(when_full("j3", "d3").await, Enqueued::Full);
    assert_eq!(store.job("j3").await.unwrap(), None);
}

async fn a_job_that_is_being_canceled_is_not_joined(store: Arc<dyn Store>) {
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    let claimed = claim(store).await.unwrap();
    store
        .run(Cancel {
            job: "j1".to_owned(),
        })
        .await
        .unwrap();
    assert!(
        matches!(enqueue(store, job("j2", "d1")).await, Enqueued::Ending(job) if job.id == "j1")
    );
    finish(store, &claimed, JobOutcome::Canceled).await;
    assert!(matches!(
        enqueue(store, job("j2", "d1")).await,
        Enqueued::Accepted(_)
    ));
}

async fn a_worker_that_lost_its_lease_changes_nothing(store: Arc<dyn Store>) {
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    let lost = claim_with(store, NO_LEASE).await.unwrap();
    let swept = store.run(Sweep { policy: POLICY }).await.unwrap();
    assert_eq!(swept.requeued, 1);
    assert_eq!(beat(store, &lost, None).await, Held::Lost);
    let held = claim(store).await.unwrap();
    assert_eq!((held.id.as_str(), held.attempt), ("j1", 2));
    assert!(held.epoch > lost.epoch);
    assert!(!finish(store, &lost, success("late")).await);
    assert_eq!(store.schedule("late").await.unwrap(), None);
    assert_eq!(
        store.run(Sweep { policy: POLICY }).await.unwrap().requeued,
        0
    );
    assert!(finish(store, &held, success("s1")).await);
}

async fn jobs_that_kill_their_workers_are_given_up(store: Arc<dyn Store>) {
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    for attempt in 1..=3 {
        let claimed = claim_with(store, NO_LEASE).await.unwrap();
        assert_eq!(claimed.attempt, attempt);
        store.run(Sweep { policy: POLICY }).await.unwrap();
    }
    assert!(claim(store).await.is_none());
    let given_up = store.job("j1").await.unwrap().unwrap();
    assert!(
        matches!(&given_up.outcome, Some(JobOutcome::Failed(failure)) if failure.code == "worker-lost"),
        "{given_up:?}"
    );
    // With a pause between attempts the job is not claimed at once.
    enqueue(store, job("j2", "d2")).await;
    claim_with(store, NO_LEASE).await.unwrap();
    let patient = Policy {
        backoff: 60_000,
        ..POLICY
    };
    store.run(Sweep { policy: patient }).await.unwrap();
    assert!(claim(store).await.is_none());
    assert_eq!(state(store, "j2").await, State::Queued);
}

async fn a_released_job_keeps_its_attempts(store: Arc<dyn Store>) {
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    for _ in 0..5 {
        let claimed = claim(store).await.unwrap();
        assert_eq!(claimed.attempt, 1);
        let (job, epoch) = (claimed.id, claimed.epoch);
        store.run(Release { job, epoch }).await.unwrap();
    }
    assert_eq!(state(store, "j1").await, State::Queued);
}

async fn cancellation_ends_waiting_jobs_and_asks_running_ones(store: Arc<dyn Store>) {
    let store = &*store;
    let cancel = |id: &str| store.run(Cancel { job: id.to_owned() });
    assert_eq!(cancel("none").await.unwrap(), Canceled::NoSuchJob);
    enqueue(store, job("j1", "d1")).await;
    for _ in 0..2 {
        assert!(
            matches!(cancel("j1").await.unwrap(), Canceled::Yes(job) if job.outcome == Some(JobOutcome::Canceled))
        );
    }
    enqueue(store, job("j2", "d2")).await;
    let claimed = claim(store).await.unwrap();
    assert!(
        matches!(cancel("j2").await.unwrap(), Canceled::Yes(job) if job.status.cancel_requested)
    );
    assert_eq!(beat(store, &claimed, None).await, Held::CancelRequested);
    assert!(finish(store, &claimed, JobOutcome::Canceled).await);
    assert_eq!(state(store, "j2").await, State::Canceled);
    // A holder that dies before it hears of it, and one that stops.
    enqueue(store, job("j3", "d3")).await;
    claim_with(store, NO_LEASE).await.unwrap();
    cancel("j3").await.unwrap();
    assert_eq!(
        store.run(Sweep { policy: POLICY }).await.unwrap().canceled,
        1
    );
    enqueue(store, job("j4", "d4")).await;
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, success("s4")).await;
    assert_eq!(
        cancel("j4").await.unwrap(),
        Canceled::TooLate(State::Succeeded)
    );
}

async fn the_queue_goes_by_priority_and_waiting(store: Arc<dyn Store>) {
    let store = &*store;
    let with = |id: &str, priority| NewJob {
        priority,
        ..job(id, id)
    };
    for (id, priority) in [("a", 0), ("b", 0), ("c", 5), ("d", -5)] {
        enqueue(store, with(id, priority)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut order = Vec::new();
    while let Some(claimed) = claim(store).await {
        order.push(claimed.id);
    }
    assert_eq!(order, ["c", "a", "b", "d"]);
}

async fn work_goes_to_the_device_it_is_meant_for(store: Arc<dyn Store>) {
    let store = &*store;
    let calibration = |id: &str| NewJob {
        work: Work::Calibration,
        ..job(id, id)
    };
    let claim = async |device| {
        let claim = Claim {
            worker: "w".to_owned(),
            device,
            policy: POLICY,
        };
        store.run(claim).await.unwrap().map(|job| job.id)
    };
    for (worker, device) in [("c", DeviceKind::Cpu), ("g", DeviceKind::Gpu)] {
        let seen = SeeWorker {
            worker: worker.to_owned(),
            device,
            patience: 60_000,
        };
        store.run(seen).await.unwrap();
    }
    enqueue(store, calibration("heavy")).await;
    enqueue(store, job("light", "light")).await;
    assert_eq!(claim(DeviceKind::Cpu).await.as_deref(), Some("light"));
    assert_eq!(claim(DeviceKind::Cpu).await, None);
    enqueue(store, job("b", "b")).await;
    assert_eq!(claim(DeviceKind::Gpu).await.as_deref(), Some("heavy"));
    assert_eq!(claim(DeviceKind::Gpu).await, None);
    // Where there is no GPU any more, CPUs calibrate.
    enqueue(store, calibration("c")).await;
    let workers = vec!["g".to_owned()];
    store.run(ForgetWorkers { workers }).await.unwrap();
    assert_eq!(claim(DeviceKind::Cpu).await.as_deref(), Some("b"));
    assert_eq!(claim(DeviceKind::Cpu).await.as_deref(), Some("c"));
}

async fn keys_stand_for_their_first_request(store: Arc<dyn Store>) {
    let store = &*store;
    let with = async |id: &str, digest: &str, fingerprint: &str, lifetime| {
        let enqueue = Enqueue {
            job: job(id, digest),
            key: Some(IdempotencyKey {
                key: "k".to_owned(),
                item: 0,
                fingerprint: fingerprint.to_owned(),
                lifetime,
            }),
            webhook: None,
            has_room: true,
        };
        store.run(enqueue).await.unwrap()
    };
    assert!(matches!(
        with("j1", "d1", "f1", 60_000).await,
        Enqueued::Accepted(_)
    ));
    assert_eq!(with("j2", "d2", "f2", 60_000).await, Enqueued::KeyReused);
    assert_eq!(store.job("j2").await.unwrap(), None);
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, failure("no")).await;
    // Without the key the failed request would be tried again.
    assert!(
        matches!(with("j3", "d1", "f1", 60_000).await, Enqueued::Replayed(job) if job.id == "j1")
    );
    store.run(Prune { retention: 60_000 }).await.unwrap();
    assert_eq!(with("j4", "d2", "f2", 60_000).await, Enqueued::KeyReused);
}

async fn webhooks_become_due_with_their_jobs(store: Arc<dyn Store>) {
    let store = &*store;
    let subscribe = async |id: &str, webhook: &str| {
        let enqueue = Enqueue {
            job: job(id, "d1"),
            key: None,
            webhook: Some((webhook.to_owned(), "https://example.com".to_owned())),
            has_room: true,
        };
        store.run(enqueue).await.unwrap()
    };
    let take = async || store.run(TakeDelivery { hold: 60_000 }).await.unwrap();
    subscribe("j1", "m1").await;
    subscribe("j2", "m2").await;
    assert_eq!(take().await, None);
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, success("s1")).await;
    let (first, second) = (take().await.unwrap(), take().await.unwrap());
    let ids: HashSet<&str> = [first.id.as_str(), second.id.as_str()].into();
    assert_eq!(ids, ["m1", "m2"].into());
    assert_eq!((first.job_id.as_str(), first.attempts), ("j1", 1));
    assert_eq!(take().await, None);
    // A request that was answered before still calls; a call that failed comes again.
    subscribe("j3", "m3").await;
    let third = take().await.unwrap();
    assert_eq!((third.id.as_str(), third.job_id.as_str()), ("m3", "j1"));
    let settle = async |delivery, attempt| {
        store
            .run(SettleDelivery { delivery, attempt })
            .await
            .unwrap();
    };
    let error = "no".to_owned();
    settle(
        third,
        Attempt::Again {
            pause: 0,
            error: error.clone(),
        },
    )
    .await;
    let again = take().await.unwrap();
    assert_eq!((again.id.as_str(), again.attempts), ("m3", 2));
    settle(again, Attempt::GivenUp { error }).await;
    settle(first, Attempt::Delivered).await;
    assert_eq!(take().await, None);
}

async fn jobs_are_listed_newest_first(store: Arc<dyn Store>) {
    let store = &*store;
    for id in ["a", "b", "c"] {
        enqueue(store, job(id, id)).await;
    }
    let other = NewJob {
        model: "sdxl".to_owned(),
        ..job("d", "d")
    };
    enqueue(store, other).await;
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, failure("no")).await;
    let list = async |filter: JobFilter, before: Option<&str>, limit| {
        let jobs = store.jobs(&filter, before, limit).await.unwrap();
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(list(JobFilter::default(), None, 3).await, ["d", "c", "b"]);
    assert_eq!(list(JobFilter::default(), Some("b"), 3).await, ["a"]);
    let queued = JobFilter {
        state: Some(State::Queued),
        model: Some("sd-v2.1".to_owned()),
    };
    assert_eq!(list(queued, None, 10).await, ["c", "b"]);
    let failed = JobFilter {
        state: Some(State::Failed),
        ..JobFilter::default()
    };
    let failed = store.jobs(&failed, None, 10).await.unwrap();
    assert_eq!(failed[0].failure.as_ref().unwrap().code, "no");
}

async fn old_rows_are_deleted_and_answers_kept(store: Arc<dyn Store>) {
    let store = &*store;
    for id in ["a-good", "b-bad"] {
        enqueue(store, job(id, id)).await;
    }
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, success("s1")).await;
    let claimed = claim(store).await.unwrap();
    finish(store, &claimed, failure("no")).await;
    enqueue(store, job("waiting", "waiting")).await;
    let kept = store.run(Prune { retention: 60_000 }).await.unwrap();
    assert_eq!(kept.jobs, 0);
    let pruned = store.run(Prune { retention: -60_000 }).await.unwrap();
    assert_eq!(pruned.jobs, 1);
    assert_eq!(store.job("b-bad").await.unwrap(), None);
    assert_eq!(state(store, "a-good").await, State::Succeeded);
    assert_eq!(state(store, "waiting").await, State::Queued);
}

async fn models_and_schedules_are_kept(store: Arc<dyn Store>) {
    let store = &*store;
    for id in ["s1", "s2"] {
        enqueue(store, job(id, id)).await;
        let claimed = claim(store).await.unwrap();
        finish(store, &claimed, success(id)).await;
    }
    // A schedule keeps its first document.
    enqueue(store, job("j3", "d3")).await;
    let claimed = claim(store).await.unwrap();
    let mut other = schedule("s1");
    "{}".clone_into(&mut other.document);
    finish(store, &claimed, JobOutcome::Succeeded { schedule: other }).await;
    let kept = store.job_of_digest("d3").await.unwrap().unwrap();
    assert_eq!(kept.outcome, Some(success("s1")));

    let list = async |filter: ScheduleFilter, after: &str| {
        let schedules = store.schedules(&filter, after, 10).await.unwrap();
        schedules.into_iter().map(|s| s.id).collect::<Vec<_>>()
    };
    assert_eq!(list(ScheduleFilter::default(), "").await, ["s1", "s2"]);
    assert_eq!(list(ScheduleFilter::default(), "s1").await, ["s2"]);
    let six = ScheduleFilter {
        nfe: Some(6),
        ..ScheduleFilter::default()
    };
    assert!(list(six, "").await.is_empty());

    let model = ModelRecord {
        id: "mine".to_owned(),
        document: "{}".to_owned(),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    let put = async |model: &ModelRecord| {
        let model = model.clone();
        store.run(PutModel { model }).await.unwrap()
    };
    assert_eq!(put(&model).await, Stored::Created);
    assert_eq!(put(&model).await, Stored::Same);
    let other = ModelRecord {
        document: "[]".to_owned(),
        ..model.clone()
    };
    assert_eq!(put(&other).await, Stored::Conflict);
    assert_eq!(store.model("mine").await.unwrap(), Some(model.clone()));
    assert_eq!(store.models().await.unwrap(), [model]);
}

async fn workers_in_a_race_never_share_a_job(store: Arc<dyn Store>) {
    const JOBS: usize = 60;
    let enqueued = (0..JOBS * 2).map(|i| {
        let store = store.clone();
        let job = job(&format!("{i:03}"), &format!("{}", i % JOBS));
        tokio::spawn(async move { enqueue(&*store, job).await })
    });
    let mut accepted = 0;
    for answer in enqueued.collect::<Vec<_>>() {
        accepted += usize::from(matches!(answer.await.unwrap(), Enqueued::Accepted(_)));
    }
    assert_eq!(accepted, JOBS);
    let workers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            while let Some(job) = claim(&*store).await {
                assert!(finish(&*store, &job, success(&job.digest)).await);
                mine.push(job.id);
            }
            mine
        })
    });
    let mut claimed = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        claimed.extend(worker.await.unwrap());
    }
    assert_eq!(claimed.len(), JOBS);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), JOBS);
}

async fn changes_are_heard_of(store: Arc<dyn Store>) {
    let mut changes = store.changes();
    let store = &*store;
    enqueue(store, job("j1", "d1")).await;
    let claimed = claim(store).await.unwrap();
    store
        .run(Cancel {
            job: "j1".to_owned(),
        })
        .await
        .unwrap();
    finish(store, &claimed, JobOutcome::Canceled).await;
    let id = || "j1".to_owned();
    let mut expected = vec![
        Change::Queued,
        Change::Moved(id()),
        Change::CancelRequested(id()),
        Change::Ended(id()),
    ];
    while !expected.is_empty() {
        let heard = tokio::time::timeout(Duration::from_secs(5), changes.recv()).await;
        let heard = heard
            .unwrap_or_else(|_| panic!("never heard of {expected:?}"))
            .unwrap();
        expected.retain(|change| *change != heard);
    }
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
