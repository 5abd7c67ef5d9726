//! Classifier-free guidance (arXiv 2207.12598): a class-conditional denoiser pushed away from its unconditional answer.
//!
//! At one noise level noise, v and data predictions differ by fixed linear maps, so guiding the data prediction is guiding
//! whatever the network predicts. The two answers count as one evaluation.

use super::{Batch, Capacity, Conditioning, Denoiser, DenoiserError, Pictures};
use crate::solver::{Level, Space};

/// A denoiser under guidance.
pub struct Guided<D> {
    denoiser: D,
    /// Weight of the conditional answer; 1 is the conditional model as it is.
    scale: f64,
}

impl<D: Denoiser> Guided<D> {
    pub fn new(denoiser: D, scale: f64) -> Self {
        Self { denoiser, scale }
    }
}

impl<D: Denoiser> Denoiser for Guided<D> {
    fn shape(&self) -> &[usize] {
        self.denoiser.shape()
    }

    fn classes(&self) -> u32 {
        self.denoiser.classes()
    }

    fn capacity(&self) -> Capacity {
        self.denoiser.capacity()
    }

    fn pictures(&self, samples: &Batch) -> Result<Option<Pictures>, DenoiserError> {
        self.denoiser.pictures(samples)
    }

    /// `unconditional + scale (conditional - unconditional)`.
    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        if self.scale == 1.0 || *conditioning == Conditioning::None {
            return self.denoiser.denoise(x, level, conditioning);
        }
        let conditional = self.denoiser.denoise(x, level, conditioning)?;
        let unconditional = self.denoiser.denoise(x, level, &Conditioning::None)?;
        Ok(Batch::combine(&[
            (self.scale, &conditional),
            (1.0 - self.scale, &unconditional),
        ]))
    }
}
