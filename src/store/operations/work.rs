//! What workers do to jobs, and what ends them from outside. Every write is fenced by the epoch of the worker's claim.

use super::{Operation, Scope, rfc_3339};
use crate::lifecycle::{DeviceKind, Millis, Policy, Refusal, State, Status, Work, takes};
use crate::store::statements::Ended;
use crate::store::{Change, Claimed, Failure, JobOutcome, JobRecord, StoreError};
use async_trait::async_trait;

/// A worker is there, and will say so again before `patience` (milliseconds) is over.
#[derive(Clone, Debug)]
pub struct SeeWorker {
    pub worker: String,
    pub device: DeviceKind,
    pub patience: Millis,
}

#[async_trait]
impl Operation for SeeWorker {
    type Answer = ();

    async fn run(&self, scope: &mut Scope<'_>) -> Result<(), StoreError> {
        let until = scope.now().await? + self.patience;
        let device = self.device.as_str();
        Ok(scope.sql.see_worker(&self.worker, device, until).await?)
    }
}

/// Workers leave.
#[derive(Clone, Debug)]
pub struct ForgetWorkers {
    pub workers: Vec<String>,
}

#[async_trait]
impl Operation for ForgetWorkers {
    type Answer = ();

    async fn run(&self, scope: &mut Scope<'_>) -> Result<(), StoreError> {
        for worker in &self.workers {
            scope.sql.forget_worker(worker).await?;
        }
        Ok(())
    }
}

/// A worker asks for the next job that its device takes.
#[derive(Clone, Debug)]
pub struct Claim {
    pub worker: String,
    pub device: DeviceKind,
    pub policy: Policy,
}

#[async_trait]
impl Operation for Claim {
    type Answer = Option<Claimed>;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Option<Claimed>, StoreError> {
        let now = scope.now().await?;
        let live = scope.sql.live_devices(now).await?;
        let live: Vec<DeviceKind> = live.iter().filter_map(|text| text.parse().ok()).collect();
        let works = Work::ALL.map(|work| takes(self.device, work, &live).then_some(work));
        let works: Vec<Work> = works.into_iter().flatten().collect();
        let Some(row) = scope.sql.claimable(now, &works).await? else {
            return Ok(None);
        };
        let (job, status) = row.split()?;
        let Ok(status) = status.claim(&self.worker, now, &self.policy) else {
            return Ok(None);
        };
        scope
            .sql
            .set_status(&job.id, &status, Ended::default())
            .await?;
        scope.announce(Change::Moved(job.id.clone()));
        Ok(Some(Claimed {
            epoch: status.epoch,
            attempt: status.attempts,
            ..job
        }))
    }
}

/// A worker renews its lease and says how far it is.
#[derive(Clone, Debug)]
pub struct Beat {
    pub job: String,
    pub epoch: i64,
    /// JSON, where there is something new.
    pub progress: Option<String>,
    pub policy: Policy,
}

/// What a beat tells the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Yes,
    /// The job is still the worker's, but should end.
    CancelRequested,
    /// The job is somebody else's or has ended: give up.
    Lost,
}

#[async_trait]
impl Operation for Beat {
    type Answer = Held;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Held, StoreError> {
        let now = scope.now().await?;
        let Some(status) = status(&self.job, scope).await? else {
            return Ok(Held::Lost);
        };
        let Ok(status) = status.beat(self.epoch, now, &self.policy) else {
            return Ok(Held::Lost);
        };
        scope
            .sql
            .set_status(&self.job, &status, Ended::default())
            .await?;
        if let Some(progress) = &self.progress {
            scope.sql.set_progress(&self.job, progress).await?;
            scope.announce(Change::Moved(self.job.clone()));
        }
        Ok(if status.cancel_requested {
            Held::CancelRequested
        } else {
            Held::Yes
        })
    }
}

/// A worker has a result. Result, state and the calls that are due now change together.
#[derive(Clone, Debug)]
pub struct Finish {
    pub job: String,
    pub epoch: i64,
    pub outcome: JobOutcome,
}

#[async_trait]
impl Operation for Finish {
    /// Whether the job was still the worker's to finish.
    type Answer = bool;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<bool, StoreError> {
        let Some(status) = status(&self.job, scope).await? else {
            return Ok(false);
        };
        let Ok(status) = status.finish(self.epoch, self.outcome.ending()) else {
            return Ok(false);
        };
        end(&self.job, &status, &self.outcome, scope).await?;
        Ok(true)
    }
}

/// A worker gives a job back because its process stops.
#[derive(Clone, Debug)]
pub struct Release {
    pub job: String,
    pub epoch: i64,
}

#[async_trait]
impl Operation for Release {
    type Answer = ();

    async fn run(&self, scope: &mut Scope<'_>) -> Result<(), StoreError> {
        let now = scope.now().await?;
        if let Some(status) = status(&self.job, scope).await?
            && let Ok(status) = status.release(self.epoch, now)
        {
            settle(&self.job, &status, scope).await?;
        }
        Ok(())
    }
}

/// Somebody wants a job to end.
#[derive(Clone, Debug)]
pub struct Cancel {
    pub job: String,
}

/// What a wish to cancel met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// The job as it is now: canceled, or running until its worker hears of it.
    Yes(Box<JobRecord>),
    /// The job had ended otherwise.
    TooLate(State),
    NoSuchJob,
}

#[async_trait]
impl Operation for Cancel {
    type Answer = Canceled;

    async fn run(&self, scope: &mut Scope<'_>) -> Result<Canceled, StoreError> {
        let Some(before) = status(&self.job, scope).await? else {
            return Ok(Canceled::NoSuchJob);
        };
        match before.cancel() {
            Err(Refusal::Ended(state)) => return Ok(Canceled::TooLate(state)),
            Ok(after) if after != before => settle(&self.job, &after, scope).await?,
            Ok(_) | Err(_) => {}
        }
        match scope.sql.job(&self.job).await? {
            Some(row) => Ok(Canceled::Yes(Box::new(row.try_into()?))),
            None => Ok(Canceled::NoSuchJob),
        }
    }
}

/// A job's status, locked until the transaction ends.
pub(super) async fn status(job: &str, scope: &mut Scope<'_>) -> Result<Option<Status>, StoreError> {
    let row = scope.sql.held(job).await?;
    row.map(crate::store::rows::HeldRow::status).transpose()
}

/// Writes a status that no worker's result came with: where it is a failure, the workers were lost.
pub(super) async fn settle(
    job: &str,
    status: &Status,
    scope: &mut Scope<'_>,
) -> Result<(), StoreError> {
    match status.state {
        State::Queued => {
            scope.sql.set_status(job, status, Ended::default()).await?;
            scope.announce(Change::Moved(job.to_owned()));
            scope.announce(Change::Queued);
        }
        State::Running => {
            scope.sql.set_status(job, status, Ended::default()).await?;
            scope.announce(Change::CancelRequested(job.to_owned()));
        }
        State::Canceled => end(job, status, &JobOutcome::Canceled, scope).await?,
        State::Succeeded | State::Failed => {
            let lost = JobOutcome::Failed(Failure {
                code: "worker-lost".to_owned(),
                detail: format!(
                    "the workers that ran it died or fell silent {} times: it may need more memory than they have",
                    status.attempts
                ),
            });
            end(job, status, &lost, scope).await?;
        }
    }
    Ok(())
}

/// Writes how a job ended and makes its webhooks due.
async fn end(
    job: &str,
    status: &Status,
    outcome: &JobOutcome,
    scope: &mut Scope<'_>,
) -> Result<(), StoreError> {
    let now = scope.now().await?;
    let finished_at = rfc_3339(now);
    let mut ended = Ended {
        finished_at: Some(&finished_at),
        ..Ended::default()
    };
    match outcome {
        JobOutcome::Succeeded { schedule } => {
            scope.sql.insert_schedule(schedule).await?;
            ended.schedule_id = Some(&schedule.id);
        }
        JobOutcome::Failed(failure) => ended.failure = Some(failure),
        JobOutcome::Canceled => {}
    }
    scope.sql.set_status(job, status, ended).await?;
    if scope.sql.arm_webhooks(job, now).await? > 0 {
        scope.announce(Change::DeliveryDue);
    }
    scope.announce(Change::Ended(job.to_owned()));
    Ok(())
}
