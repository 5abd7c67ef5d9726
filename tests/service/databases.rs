//! Databases for tests: a new one each time, gone afterwards.

use sqlx::{Connection, PgConnection};
use std::path::Path;

/// `sqlite:` URL of a file in `folder`.
pub fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("fewstep.db").display())
}

/// A PostgreSQL database of its own, dropped with the value.
pub struct Postgres {
    server: String,
    name: String,
}

impl Postgres {
    /// Nothing where `TEST_DATABASE_URL` is not set, after saying so.
    pub async fn create() -> Option<Self> {
        let Ok(server) = std::env::var("TEST_DATABASE_URL") else {
            eprintln!("SKIPPED on PostgreSQL: set TEST_DATABASE_URL=postgres://USER@HOST/DATABASE");
            return None;
        };
        let name = format!("fewstep_test_{}", ulid::Ulid::generate()).to_lowercase();
        execute(&server, format!("CREATE DATABASE {name}")).await;
        Some(Self { server, name })
    }

    pub fn url(&self) -> String {
        let (base, _) = self.server.rsplit_once('/').unwrap();
        format!("{base}/{}", self.name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(execute(
                &server,
                format!("DROP DATABASE {name} WITH (FORCE)"),
            ));
        });
        let _ = dropping.join();
    }
}

async fn execute(server: &str, statement: String) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .unwrap();
}
