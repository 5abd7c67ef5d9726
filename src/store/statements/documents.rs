//! Schedules and models: documents that never change.

use super::{Sql, statements};
use crate::store::records::{ModelRecord, ScheduleFilter, ScheduleRecord};
use async_trait::async_trait;

statements! {
    /// Statements on schedules and models.
    DocumentStatements {
        async fn insert_schedule(&mut self, schedule: &ScheduleRecord) -> Sql<()> {
            sqlx::query(
                "INSERT INTO schedules (id, model, solver, nfe, method, document, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(&schedule.id)
            .bind(&schedule.model)
            .bind(&schedule.solver)
            .bind(i32::from(schedule.nfe))
            .bind(&schedule.method)
            .bind(&schedule.document)
            .bind(&schedule.created_at)
            .execute(self)
            .await
            .map(|_| ())
        }

        async fn schedule(&mut self, id: &str) -> Sql<Option<ScheduleRecord>> {
            sqlx::query_as(
                "SELECT id, model, solver, nfe, method, document, created_at FROM schedules WHERE id = $1",
            )
            .bind(id)
            .fetch_optional(self)
            .await
        }

        async fn schedules(&mut self, filter: &ScheduleFilter, after: &str, limit: u32) -> Sql<Vec<ScheduleRecord>> {
            sqlx::query_as(
                "SELECT id, model, solver, nfe, method, document, created_at FROM schedules \
                 WHERE id > $1 AND ($2 IS NULL OR model = $2) AND ($3 IS NULL OR solver = $3) \
                 AND ($4 IS NULL OR nfe = $4) AND ($5 IS NULL OR method = $5) ORDER BY id LIMIT $6",
            )
            .bind(after)
            .bind(&filter.model)
            .bind(&filter.solver)
            .bind(filter.nfe.map(i32::from))
            .bind(&filter.method)
            .bind(i64::from(limit))
            .fetch_all(self)
            .await
        }

        /// Whether the id is new.
        async fn insert_model(&mut self, model: &ModelRecord) -> Sql<bool> {
            let done = sqlx::query(
                "INSERT INTO models (id, document, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind(&model.id)
            .bind(&model.document)
            .bind(&model.created_at)
            .execute(self)
            .await?;
            Ok(done.rows_affected() == 1)
        }

        async fn model(&mut self, id: &str) -> Sql<Option<ModelRecord>> {
            sqlx::query_as("SELECT id, document, created_at FROM models WHERE id = $1")
                .bind(id)
                .fetch_optional(self)
                .await
        }

        async fn models(&mut self) -> Sql<Vec<ModelRecord>> {
            sqlx::query_as("SELECT id, document, created_at FROM models ORDER BY id")
                .fetch_all(self)
                .await
        }
    }
}
