//! What is read, the same on every database.

use super::{
    JobFilter, JobLine, JobRecord, Load, ModelRecord, ScheduleFilter, ScheduleRecord, Store,
    StoreError,
};

impl dyn Store + '_ {
    pub async fn job(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        let row = self.connection().await?.statements().job(id).await?;
        row.map(JobRecord::try_from).transpose()
    }

    /// The one job of a request's digest that waits, runs or succeeded.
    pub async fn job_of_digest(&self, digest: &str) -> Result<Option<JobRecord>, StoreError> {
        let mut connection = self.connection().await?;
        let row = connection.statements().job_of_digest(digest).await?;
        row.map(JobRecord::try_from).transpose()
    }

    /// Jobs, newest first, those before `before`, at most `limit`.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobLine>, StoreError> {
        let mut connection = self.connection().await?;
        let rows = connection.statements().jobs(filter, before, limit).await?;
        rows.into_iter().map(JobLine::try_from).collect()
    }

    /// How many jobs wait and run.
    pub async fn load(&self) -> Result<Load, StoreError> {
        Ok(self.connection().await?.statements().load().await?)
    }

    pub async fn schedule(&self, id: &str) -> Result<Option<ScheduleRecord>, StoreError> {
        Ok(self.connection().await?.statements().schedule(id).await?)
    }

    /// Schedules in the order of their ids, those after `after`, at most `limit`.
    pub async fn schedules(
        &self,
        filter: &ScheduleFilter,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ScheduleRecord>, StoreError> {
        let mut connection = self.connection().await?;
        let rows = connection.statements().schedules(filter, after, limit);
        Ok(rows.await?)
    }

    pub async fn model(&self, id: &str) -> Result<Option<ModelRecord>, StoreError> {
        Ok(self.connection().await?.statements().model(id).await?)
    }

    /// Every registered model in the order of their ids.
    pub async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        Ok(self.connection().await?.statements().models().await?)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.connection().await?.statements().ping().await?;
        Ok(())
    }
}
