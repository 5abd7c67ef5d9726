//! A job's events in order: its states, its progress, its result.
//!
//! Every event has a [`Position`] that any process can tell from the store, so a client that reconnects, to whichever
//! server, goes on after the last one it saw.

use super::{Board, LOOK};
use crate::api::JobProgress;
use crate::store::{Change, JobRecord, Store, StoreError, heard};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Progress is told this often at most.
const PACE: Duration = Duration::from_millis(100);

/// A place in a job's events: its epoch, and a step in that epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    epoch: i64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The epoch began.
    State,
    /// So many evaluations were done.
    Progress(u64),
    /// The job has ended, and this was its result.
    Result,
}

impl Position {
    /// Whether the events of such a job can have this position.
    #[must_use]
    pub fn is_of(&self, job: &JobRecord) -> bool {
        self.epoch <= job.status.epoch
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.step == Step::Result
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::State => write!(f, "{}", self.epoch),
            Step::Progress(evaluations) => write!(f, "{}.{evaluations}", self.epoch),
            Step::Result => write!(f, "{}.result", self.epoch),
        }
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, step) = match text.split_once('.') {
            None => (text, Step::State),
            Some((epoch, "result")) => (epoch, Step::Result),
            Some((epoch, evaluations)) => (epoch, Step::Progress(evaluations.parse()?)),
        };
        Ok(Self {
            epoch: epoch.parse()?,
            step,
        })
    }
}

/// Something a client is told.
#[derive(Debug)]
pub enum JobEvent {
    State(JobRecord),
    Progress(JobProgress),
    /// The last event.
    Result(JobRecord),
}

/// Reads a job's events, one after the other.
pub struct Follower {
    store: Arc<dyn Store>,
    board: Board,
    changes: broadcast::Receiver<Change>,
    stop: watch::Receiver<bool>,
    job: String,
    last: Option<Position>,
}

impl Follower {
    pub(super) fn new(
        store: Arc<dyn Store>,
        board: Board,
        stop: watch::Receiver<bool>,
        job: &str,
        last: Option<Position>,
    ) -> Self {
        Self {
            changes: store.changes(),
            store,
            board,
            stop,
            job: job.to_owned(),
            last,
        }
    }

    /// The next event; nothing after the result, when the job is gone, or when the service stops.
    pub async fn next(&mut self) -> Result<Option<(Position, JobEvent)>, StoreError> {
        if matches!(
            self.last,
            Some(Position {
                step: Step::Progress(_),
                ..
            })
        ) {
            tokio::time::sleep(PACE).await;
        }
        loop {
            let Some(job) = self.store.job(&self.job).await? else {
                return Ok(None);
            };
            let has_ended = job.status.state.is_final();
            if let Some((position, event)) = self.news(job) {
                self.last = Some(position);
                return Ok(Some((position, event)));
            }
            if has_ended || *self.stop.borrow() {
                return Ok(None);
            }
            self.wait().await;
        }
    }

    /// What the client has not seen yet.
    fn news(&self, job: JobRecord) -> Option<(Position, JobEvent)> {
        let at = |step| Position {
            epoch: job.status.epoch,
            step,
        };
        let is_new = |position: &Position| self.last.is_none_or(|last| *position > last);
        if is_new(&at(Step::State)) {
            return Some((at(Step::State), JobEvent::State(job)));
        }
        if job.status.state.is_final() {
            let position = Some(at(Step::Result)).filter(is_new)?;
            return Some((position, JobEvent::Result(job)));
        }
        let progress = self.board.progress(&job)?;
        let position = Some(at(Step::Progress(progress.evaluations))).filter(is_new)?;
        Some((position, JobEvent::Progress(progress)))
    }

    async fn wait(&mut self) {
        let here = async {
            if let Some(mut progress) = self.board.watch(&self.job) {
                progress.mark_unchanged();
                if progress.changed().await.is_ok() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = heard(&mut self.changes, |change| change.job() == Some(&self.job)) => {}
            () = here => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_in_the_order_of_their_events() {
        let texts = ["0", "1", "1.60", "1.120", "2", "2.result", "10"];
        let positions = texts.map(|text| text.parse::<Position>().unwrap());
        assert!(positions.is_sorted());
        assert_eq!(positions.map(|position| position.to_string()), texts);
        assert!("x".parse::<Position>().is_err() && "1.x".parse::<Position>().is_err());
    }
}
