//! The SQL: static statements that mean the same to both databases, which both number their parameters `$1`, `$2`, ...
//!
//! Each statement is written once and implemented, by a macro, for the connections of either database; the few that read
//! otherwise are constants of their [`dialect`]. No decision is made here: that is `operations`' part.

mod bookkeeping;
mod dialect;
mod documents;
mod jobs;

pub use bookkeeping::WebhookState;
pub use jobs::Ended;

use crate::lifecycle::Millis;
use async_trait::async_trait;
use bookkeeping::BookkeepingStatements;
use dialect::Dialect;
use documents::DocumentStatements;
use jobs::JobStatements;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection};

type Sql<T> = Result<T, sqlx::Error>;

/// Declares a trait of statements and implements it for both kinds of connection.
macro_rules! statements {
    (
        $(#[$trait_doc:meta])*
        $trait:ident {
            $(
                $(#[$doc:meta])*
                async fn $name:ident(&mut $self:ident $(, $argument:ident: $type:ty)*) -> $answer:ty
                $body:block
            )*
        }
    ) => {
        $(#[$trait_doc])*
        #[async_trait]
        pub trait $trait: Send {
            $(
                $(#[$doc])*
                async fn $name(&mut $self $(, $argument: $type)*) -> $answer;
            )*
        }

        #[async_trait]
        impl $trait for sqlx::SqliteConnection {
            $( async fn $name(&mut $self $(, $argument: $type)*) -> $answer $body )*
        }

        #[async_trait]
        impl $trait for sqlx::PgConnection {
            $( async fn $name(&mut $self $(, $argument: $type)*) -> $answer $body )*
        }
    };
}
use statements;

statements! {
    /// Whether somebody is there, and what time it is there.
    ClockStatements {
        async fn ping(&mut self) -> Sql<()> {
            sqlx::query("SELECT 1").execute(self).await.map(|_| ())
        }

        /// The clock that the queue goes by, in milliseconds.
        async fn now(&mut self) -> Sql<Millis> {
            sqlx::query_scalar(Self::NOW).fetch_one(self).await
        }
    }
}

/// Every statement.
pub trait Statements:
    ClockStatements + JobStatements + DocumentStatements + BookkeepingStatements
{
}

impl Statements for SqliteConnection {}

impl Statements for PgConnection {}

/// A pooled connection of either database.
pub trait Connection: Send {
    fn statements(&mut self) -> &mut dyn Statements;
}

impl Connection for PoolConnection<Sqlite> {
    fn statements(&mut self) -> &mut dyn Statements {
        &mut **self
    }
}

impl Connection for PoolConnection<Postgres> {
    fn statements(&mut self) -> &mut dyn Statements {
        &mut **self
    }
}
