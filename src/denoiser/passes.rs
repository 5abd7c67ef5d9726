//! A batch through a network, a few samples a pass.
//!
//! On a CPU passes share the threads of the caller's rayon pool; every kernel treats a sample by itself, so its bits depend neither on
//! the threads nor on what else is in the batch. A GPU takes one pass after another.

use super::device::{is_out_of_memory, summary};
use super::{Batch, DenoiserError, Device};
use rayon::prelude::*;
use std::ops::Range;

/// How a network takes its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passes {
    pub device: Device,
    /// Samples of one pass at most.
    pub samples: usize,
}

impl Passes {
    /// What `pass` makes of the samples of a batch: it takes their places and their numbers, and gives as many for each.
    pub fn run(
        self,
        x: &Batch,
        pass: impl Fn(Range<usize>, &[f32]) -> candle_core::Result<Vec<f32>> + Sync,
    ) -> Result<Batch, DenoiserError> {
        let size = x.size();
        let group = if self.device == Device::Cpu {
            let share = x.samples().div_ceil(rayon::current_num_threads());
            share.min(self.samples)
        } else {
            self.samples
        };
        let one = |(i, x): (usize, &[f32])| {
            let first = i * group;
            pass(first..first + x.len() / size, x)
        };
        let parts: candle_core::Result<Vec<Vec<f32>>> = if self.device == Device::Cpu {
            let parts = x.data().par_chunks(group * size).enumerate();
            parts.map(one).collect()
        } else {
            x.data().chunks(group * size).enumerate().map(one).collect()
        };
        let parts = parts.map_err(|error| self.explain(&error))?;
        Ok(Batch::new(parts.concat(), x.samples()))
    }

    fn explain(self, error: &candle_core::Error) -> DenoiserError {
        if is_out_of_memory(error) {
            DenoiserError::OutOfMemory {
                device: self.device.to_string(),
            }
        } else {
            DenoiserError::Failed(summary(error))
        }
    }
}
