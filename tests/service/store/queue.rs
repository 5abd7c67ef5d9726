//! Jobs: accepted, claimed, ended; lost, given back, canceled.

use super::{
    NO_LEASE, POLICY, beat, claim, claim_with, enqueue, failure, finish, job, schedule, state,
    success,
};
use fewstep::lifecycle::{DeviceKind, Policy, State, Work};
use fewstep::store::operations::{
    Cancel, Canceled, Claim, Enqueue, Enqueued, ForgetWorkers, Held, Release, SeeWorker, Sweep,
};
use fewstep::store::{self, JobOutcome, NewJob, Store};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

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
    workers_in_a_race_never_share_a_job,
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
