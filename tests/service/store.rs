//! What every store must do. Written against the trait, so that each backend runs the same.

use fewstep::store::{
    self, JobOutcome, JobRecord, ModelRecord, ScheduleFilter, ScheduleRecord, Store, StoreError,
    Stored,
};
use std::sync::Arc;

fn schedule(id: &str, nfe: u16) -> ScheduleRecord {
    ScheduleRecord {
        id: id.to_owned(),
        model: "sd-v2.1".to_owned(),
        solver: "unipc".to_owned(),
        nfe,
        method: "hso".to_owned(),
        document: format!("{{\"id\": \"{id}\"}}"),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn job(id: &str, digest: &str, outcome: JobOutcome) -> JobRecord {
    JobRecord {
        id: id.to_owned(),
        digest: digest.to_owned(),
        outcome,
        request: "{}".to_owned(),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
        finished_at: "2026-01-01T00:00:01Z".to_owned(),
    }
}

fn success(id: &str, digest: &str, schedule_id: &str) -> JobRecord {
    let schedule = schedule(schedule_id, 5);
    job(id, digest, JobOutcome::Succeeded { schedule })
}

async fn conforms(store: Arc<dyn Store>) {
    store.ping().await.unwrap();
    assert_eq!(store.answer("d1").await.unwrap(), None);

    let first = success("j1", "d1", "s1");
    store.finish(&first).await.unwrap();
    assert_eq!(store.answer("d1").await.unwrap().as_ref(), Some(&first));
    assert_eq!(store.job("j1").await.unwrap().as_ref(), Some(&first));
    assert_eq!(store.schedule("s1").await.unwrap(), Some(schedule("s1", 5)));

    // A digest keeps its first answer, and a schedule its first document.
    store.finish(&success("j2", "d1", "s2")).await.unwrap();
    assert_eq!(store.answer("d1").await.unwrap().as_ref(), Some(&first));
    let mut later = success("j3", "d3", "s1");
    if let JobOutcome::Succeeded { schedule } = &mut later.outcome {
        "{}".clone_into(&mut schedule.document);
    }
    store.finish(&later).await.unwrap();
    let kept = store.answer("d3").await.unwrap().unwrap();
    assert_eq!(
        kept.outcome,
        JobOutcome::Succeeded {
            schedule: schedule("s1", 5)
        }
    );

    // Failures are no answers, and may repeat.
    for id in ["j4", "j5"] {
        let error = "no".to_owned();
        store
            .finish(&job(id, "d4", JobOutcome::Failed { error }))
            .await
            .unwrap();
    }
    assert_eq!(store.answer("d4").await.unwrap(), None);
    assert!(
        matches!(store.job("j5").await.unwrap().unwrap().outcome, JobOutcome::Failed { error } if error == "no")
    );

    let all = store
        .schedules(&ScheduleFilter::default(), "", 10)
        .await
        .unwrap();
    let ids: Vec<&str> = all.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["s1", "s2"]);
    let after = store
        .schedules(&ScheduleFilter::default(), "s1", 10)
        .await
        .unwrap();
    assert_eq!(after.len(), 1);
    let none = ScheduleFilter {
        nfe: Some(6),
        ..ScheduleFilter::default()
    };
    assert!(store.schedules(&none, "", 10).await.unwrap().is_empty());

    let model = ModelRecord {
        id: "mine".to_owned(),
        document: "{}".to_owned(),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    assert_eq!(store.put_model(&model).await.unwrap(), Stored::Created);
    assert_eq!(store.put_model(&model).await.unwrap(), Stored::Same);
    let other = ModelRecord {
        document: "[]".to_owned(),
        ..model.clone()
    };
    assert_eq!(store.put_model(&other).await.unwrap(), Stored::Conflict);
    assert_eq!(store.model("mine").await.unwrap(), Some(model.clone()));
    assert_eq!(store.models().await.unwrap(), [model]);
    store.close().await;
}

#[tokio::test]
async fn sqlite_in_a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("a.db").display());
    conforms(store::open(&url).await.unwrap()).await;
    let again = store::open(&url).await.unwrap();
    assert!(again.answer("d1").await.unwrap().is_some());
}

#[tokio::test]
async fn sqlite_in_memory_conforms() {
    conforms(store::open("sqlite::memory:").await.unwrap()).await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("a.db").display());
    store::open(&url).await.unwrap().close().await;
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    match store::open(&url).await {
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
