//! A device's own thread: it holds the networks and does what it is asked, one thing after another.
//!
//! Jobs take turns: who has the turn sends batches through the channel and may have several on their way, so that the device has
//! the next batch while samplers are at work on the last one. A task that panics fails its asker alone.

use super::residents::Residents;
use super::{
    Batch, Capacity, Conditioning, Denoiser, DenoiserError, LoadError, Pictures, Placement,
};
use crate::solver::Level;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How soon a job that waits for its turn hears that it should stop.
const LOOK: Duration = Duration::from_millis(100);

/// Batches of a job on their way to the device at a time: one there, one at work in its sampler.
const IN_FLIGHT: usize = 2;

type Task = Box<dyn FnOnce(&mut Residents) + Send>;

/// A device's thread, which ends with the last handle of this.
pub(super) struct Owner {
    placement: Placement,
    tasks: Mutex<mpsc::Sender<Task>>,
    taken: Mutex<bool>,
    freed: Condvar,
    /// Names of the loaded models, for who only wants to know.
    loaded: Arc<Mutex<Vec<String>>>,
}

/// The device is gone; its thread ended or failed at this task.
#[derive(Debug, thiserror::Error)]
#[error("the device's thread failed; the log has details")]
pub(super) struct Gone;

impl Owner {
    /// Opens the device and starts its thread.
    pub fn start(placement: Placement, memory: Option<u64>) -> Result<Arc<Self>, LoadError> {
        let loaded = Arc::new(Mutex::new(Vec::new()));
        let mut residents = Residents::new(placement, memory, loaded.clone())?;
        let (tasks, queue) = mpsc::channel::<Task>();
        thread::Builder::new()
            .name(format!("fewstep-{}", placement.device))
            .spawn(move || {
                for task in queue {
                    // The asker hears of a panic by the reply that does not come.
                    let _ = catch_unwind(AssertUnwindSafe(|| task(&mut residents)));
                }
            })
            .map_err(|error| LoadError::Unavailable {
                device: placement.device.to_string(),
                detail: error.to_string(),
            })?;
        Ok(Arc::new(Self {
            placement,
            tasks: Mutex::new(tasks),
            taken: Mutex::new(false),
            freed: Condvar::new(),
            loaded,
        }))
    }

    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Whether a model of that name is in the device's memory.
    pub fn has_loaded(&self, name: &str) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().any(|loaded| loaded == name)
    }

    /// Does something on the device's thread.
    pub fn ask<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Residents) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (reply, answer) = mpsc::sync_channel(1);
        let task: Task = Box::new(move |residents| {
            // Nobody waits any more for an answer that cannot be sent.
            let _ = reply.send(task(residents));
        });
        let sent = {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.send(task)
        };
        sent.map_err(|_| Gone)?;
        answer.recv().map_err(|_| Gone)
    }

    /// Waits for the device; nothing when told to stop.
    pub fn turn(self: &Arc<Self>, stop: &AtomicBool) -> Option<Turn> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let waited = self.freed.wait_timeout(taken, LOOK);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(Turn(self.clone()))
    }
}

/// A job's turn on a device, until it is dropped.
pub(super) struct Turn(Arc<Owner>);

impl Drop for Turn {
    fn drop(&mut self) {
        let owner = &self.0;
        *owner.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        owner.freed.notify_one();
    }
}

/// A denoiser on a device, as the job that has the turn sees it.
pub(super) struct Seat {
    denoiser: Arc<dyn Denoiser>,
    turn: Turn,
}

impl Seat {
    pub fn new(turn: Turn, denoiser: Arc<dyn Denoiser>) -> Self {
        Self { denoiser, turn }
    }
}

impl Denoiser for Seat {
    fn shape(&self) -> &[usize] {
        self.denoiser.shape()
    }

    fn classes(&self) -> u32 {
        self.denoiser.classes()
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            in_flight: IN_FLIGHT,
            ..self.denoiser.capacity()
        }
    }

    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        let denoiser = self.denoiser.clone();
        let (x, level, conditioning) = (x.clone(), *level, conditioning.clone());
        let asked = self
            .turn
            .0
            .ask(move |_| denoiser.denoise(&x, &level, &conditioning));
        asked.map_err(|gone| DenoiserError::Failed(gone.to_string()))?
    }

    fn pictures(&self, samples: &Batch) -> Result<Option<Pictures>, DenoiserError> {
        let (denoiser, samples) = (self.denoiser.clone(), samples.clone());
        let asked = self.turn.0.ask(move |_| denoiser.pictures(&samples));
        asked.map_err(|gone| DenoiserError::Failed(gone.to_string()))?
    }
}
