//! The store on PostgreSQL: what several servers and workers share.
//!
//! Every operation is a transaction of its own; rows are locked with `FOR UPDATE`, and who looks for work passes over
//! locked ones. Changes travel by `NOTIFY`, sent in a statement of its own after the commit: inside the transaction it would
//! make all commits wait for each other. A lost notification costs time only, because every listener also looks.

use super::operations::{Scope, Work};
use super::statements::Connection;
use super::{Change, Store, StoreError, changes};
use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{Connection as _, PgConnection};
use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const CONNECTIONS: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that starts beside its database waits for it.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a lost connection is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A process that freezes in the middle of a transaction must not hold its rows for long.
const LIMITS: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
                      SET idle_in_transaction_session_timeout = '10s'";
const CHANNEL: &str = "fewstep";
/// Notifications sent in one statement, and those that may wait for it.
const GROUP: usize = 256;
const BACKLOG: usize = 4096;
/// Transactions that PostgreSQL gives up for another's sake: serialisation failure and deadlock.
const TRY_AGAIN: [&str; 2] = ["40001", "40P01"];
const TRIES: usize = 5;

/// A store in one PostgreSQL database.
pub struct PgStore {
    pool: PgPool,
    changes: broadcast::Sender<Change>,
    announcements: mpsc::Sender<Change>,
}

impl PgStore {
    /// Opens and migrates the database of a `postgres:` URL; waits a while for one that is still starting.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::Url {
            url: "postgres:...".to_owned(),
            detail: error.to_string(),
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let set = sqlx::raw_sql(LIMITS).execute(connection);
                    set.await.map(|_| ())
                })
            })
            .connect_lazy_with(options.clone());
        wait_for(&pool).await?;
        migrate(&options).await?;
        let changes = changes::channel();
        let (announcements, waiting) = mpsc::channel(BACKLOG);
        tokio::spawn(announce(pool.clone(), waiting));
        tokio::spawn(listen(pool.clone(), changes.clone()));
        Ok(Self {
            pool,
            changes,
            announcements,
        })
    }

    async fn try_once(&self, work: &dyn Work) -> Result<Vec<Change>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let mut scope = Scope::new(&mut *transaction);
        work.run(&mut scope).await?;
        let changed = scope.changes;
        transaction.commit().await?;
        Ok(changed)
    }
}

/// Migrates over a connection of its own, where statements may take their time.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = PgConnection::connect_with(options).await?;
    let migrated = MIGRATIONS.run(&mut connection).await;
    migrated.map_err(|error| StoreError::of_migration(error, &MIGRATIONS))?;
    Ok(connection.close().await?)
}

async fn wait_for(pool: &PgPool) -> Result<(), StoreError> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match pool.acquire().await {
            Ok(_) => return Ok(()),
            Err(error @ (sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut))
                if Instant::now() < deadline =>
            {
                tracing::warn!(%error, "the database does not answer yet");
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells the other processes what changed here, many changes in one statement.
async fn announce(pool: PgPool, mut waiting: mpsc::Receiver<Change>) {
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let texts: HashSet<String> = group.drain(..).map(|change| change.to_text()).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let sent = sqlx::query("SELECT pg_notify($1, text) FROM unnest($2::text[]) AS text")
            .bind(CHANNEL)
            .bind(&texts)
            .execute(&pool)
            .await;
        if let Err(error) = sent {
            tracing::warn!(%error, "changes were not announced; others will see them when they look");
        }
    }
}

/// Publishes what other processes announce, until the pool closes.
async fn listen(pool: PgPool, changes: broadcast::Sender<Change>) {
    while !pool.is_closed() {
        if let Err(error) = hear(&pool, &changes).await {
            if pool.is_closed() {
                return;
            }
            tracing::warn!(%error, "cannot listen for changes; looking for them instead");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn hear(pool: &PgPool, changes: &broadcast::Sender<Change>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let notification = tokio::select! {
            notification = listener.recv() => notification?,
            () = pool.close_event() => return Ok(()),
        };
        if let Some(change) = Change::from_text(notification.payload()) {
            let _ = changes.send(change);
        }
    }
}

#[async_trait]
impl Store for PgStore {
    async fn connection(&self) -> Result<Box<dyn Connection>, StoreError> {
        Ok(Box::new(self.pool.acquire().await?))
    }

    async fn transact(&self, work: Arc<dyn Work>) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            match self.try_once(&*work).await {
                Err(error) if tries < TRIES && is_passing(&error) => tries += 1,
                done => return done.map(|changed| self.publish(changed)),
            }
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl PgStore {
    /// Here at once; elsewhere through the database.
    fn publish(&self, changed: Vec<Change>) {
        for change in changed {
            let _ = self.announcements.try_send(change.clone());
            let _ = self.changes.send(change);
        }
    }
}

/// Whether another server was in the way, so that trying again may help.
fn is_passing(error: &StoreError) -> bool {
    match error {
        StoreError::Overtaken => true,
        StoreError::Database(error) => {
            let code = error.as_database_error().and_then(DatabaseError::code);
            code.is_some_and(|code| TRY_AGAIN.contains(&code.as_ref()))
        }
        _ => false,
    }
}
