//! What the databases say differently: how a row is locked for the rest of a transaction, and what time it is.
//!
//! SQLite needs no locks: a transaction that writes is alone.

use sqlx::{PgConnection, SqliteConnection};

/// Statements that each database has its own words for.
pub trait Dialect {
    const NOW: &'static str;
    const HELD: &'static str;
    const CLAIMABLE: &'static str;
    const EXPIRED: &'static str;
    const DUE_WEBHOOK: &'static str;
}

/// The columns of a status.
macro_rules! status {
    () => {
        "state, epoch, attempts, run_after, worker, lease_until, cancel_requested"
    };
}
pub(super) use status;

/// The dialect of a connection: its clock, how it locks a row, how it locks one and passes over locked ones, and how it is
/// told to go by an index (SQLite's planner prefers one that it has to sort).
macro_rules! dialect {
    ($connection:ty, $now:literal, $lock:literal, $pass_over:literal, $waiting:literal, $leased:literal) => {
        impl Dialect for $connection {
            const NOW: &'static str = $now;
            const HELD: &'static str =
                concat!("SELECT id, ", status!(), " FROM jobs WHERE id = $1", $lock);
            const CLAIMABLE: &'static str = concat!(
                "SELECT id, digest, request, created_at, ",
                status!(),
                " FROM jobs",
                $waiting,
                " WHERE state = 'queued' AND run_after <= $1 \
                 AND ((work = 'proxy' AND $2) OR (work = 'calibration' AND $3)) ORDER BY rank, id LIMIT 1",
                $pass_over
            );
            const EXPIRED: &'static str = concat!(
                "SELECT id, ",
                status!(),
                " FROM jobs",
                $leased,
                " WHERE state = 'running' AND lease_until <= $1 ORDER BY lease_until LIMIT 1",
                $pass_over
            );
            const DUE_WEBHOOK: &'static str = concat!(
                "SELECT id, job_id, url, attempts FROM webhooks WHERE state = 'due' AND due_at <= $1 \
                 ORDER BY due_at LIMIT 1",
                $pass_over
            );
        }
    };
}

dialect!(
    SqliteConnection,
    "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    "",
    "",
    " INDEXED BY jobs_waiting",
    " INDEXED BY jobs_leased"
);

dialect!(
    PgConnection,
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    " FOR UPDATE",
    " FOR UPDATE SKIP LOCKED",
    "",
    ""
);
