//! Group commit: operations that arrive while one transaction is being written share the next one, and its one
//! synchronisation with the disk. Alone, an operation waits for nobody.

use super::operations::{Scope, Work};
use super::{Change, StoreError};
use sqlx::{SqliteConnection, SqlitePool};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Most operations in one transaction.
const GROUP: usize = 256;
/// Operations that may wait for their transaction; more wait to be let in.
const BACKLOG: usize = 4096;

type Reply = oneshot::Sender<Result<(), StoreError>>;

/// The one writer of a database, fed by everyone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<(Arc<dyn Work>, Reply)>,
}

impl Writer {
    /// Starts writing to the pool's only connection; ends when the last handle is dropped or the pool closes.
    pub fn start(pool: SqlitePool, changes: broadcast::Sender<Change>) -> Self {
        let (queue, mut waiting) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(GROUP);
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                write(&pool, &changes, &mut group).await;
            }
        });
        Self { queue }
    }

    /// Runs an operation in the next transaction.
    pub async fn write(&self, work: Arc<dyn Work>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.send((work, reply)).await;
        sent.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Why a group was not written.
enum Failure {
    /// No transaction began: no member's fault.
    Begin(StoreError),
    /// An operation or the commit failed.
    Work(StoreError),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Begin(error) | Failure::Work(error) => error,
        }
    }
}

/// Writes a group in one transaction. Where an operation fails, each gets a transaction of its own, so that one's failure is
/// not its neighbours'.
async fn write(
    pool: &SqlitePool,
    changes: &broadcast::Sender<Change>,
    group: &mut Vec<(Arc<dyn Work>, Reply)>,
) {
    let works: Vec<Arc<dyn Work>> = group.iter().map(|(work, _)| work.clone()).collect();
    let written = commit(pool, changes, &works).await;
    if works.len() == 1 {
        let (_, reply) = group.remove(0);
        let _ = reply.send(written.map_err(StoreError::from));
        return;
    }
    for (work, reply) in group.drain(..) {
        let answer = match &written {
            Ok(()) => Ok(()),
            Err(Failure::Begin(error)) => Err(StoreError::Unavailable(error.to_string())),
            Err(Failure::Work(_)) => commit(pool, changes, &[work])
                .await
                .map_err(StoreError::from),
        };
        let _ = reply.send(answer);
    }
}

/// All or nothing; what changed is published once it is on disk.
///
/// Begins and ends transactions by statements of its own: on a full disk SQLite rolls back by itself, which sqlx's
/// transactions do not know about, and would then refuse to begin another.
async fn commit(
    pool: &SqlitePool,
    changes: &broadcast::Sender<Change>,
    works: &[Arc<dyn Work>],
) -> Result<(), Failure> {
    let begin = |error: sqlx::Error| Failure::Begin(error.into());
    let mut connection = pool.acquire().await.map_err(begin)?;
    let began = sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection);
    began.await.map_err(begin)?;
    match run(&mut connection, works).await {
        Ok(changed) => {
            for change in changed {
                let _ = changes.send(change);
            }
            Ok(())
        }
        Err(error) => {
            // Fails where SQLite has rolled back already.
            let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
            Err(Failure::Work(error))
        }
    }
}

/// The operations of a transaction, and its commit; what they changed.
async fn run(
    connection: &mut SqliteConnection,
    works: &[Arc<dyn Work>],
) -> Result<Vec<Change>, StoreError> {
    let mut scope = Scope::new(&mut *connection);
    for work in works {
        work.run(&mut scope).await?;
    }
    let changed = scope.changes;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(changed)
}
