//! What is kept beside the queue: keys, webhooks, lists, models and schedules; what is deleted; what is heard.

use super::{claim, enqueue, failure, finish, job, schedule, state, success};
use fewstep::lifecycle::State;
use fewstep::store::operations::{
    Attempt, Cancel, Enqueue, Enqueued, IdempotencyKey, Prune, PutModel, SettleDelivery, Stored,
    TakeDelivery,
};
use fewstep::store::{Change, JobFilter, JobOutcome, ModelRecord, NewJob, ScheduleFilter, Store};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

on_every_store! {
    keys_stand_for_their_first_request,
    webhooks_become_due_with_their_jobs,
    jobs_are_listed_newest_first,
    old_rows_are_deleted_and_answers_kept,
    models_and_schedules_are_kept,
    changes_are_heard_of,
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
