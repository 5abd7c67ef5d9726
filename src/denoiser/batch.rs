//! Samples side by side in the host's memory: the state a sampler moves when a denoiser is in the loop.

use crate::solver::Space;
use std::ops::Range;

/// `samples` samples of `size` numbers each, one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    data: Vec<f32>,
    samples: usize,
}

impl Batch {
    /// # Panics
    /// When `data` does not divide into `samples` equal parts.
    #[must_use]
    pub fn new(data: Vec<f32>, samples: usize) -> Self {
        assert!(
            samples > 0 && data.len().is_multiple_of(samples),
            "{} numbers are not {samples} samples",
            data.len()
        );
        Self { data, samples }
    }

    /// All numbers, sample after sample.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Numbers in a sample.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() / self.samples
    }

    /// Some of the samples.
    ///
    /// # Panics
    /// When there are not that many, or for none.
    #[must_use]
    pub fn slice(&self, samples: Range<usize>) -> Self {
        let size = self.size();
        let data = self.data[samples.start * size..samples.end * size].to_vec();
        Self::new(data, samples.len())
    }

    /// All samples of several batches, in their order.
    ///
    /// # Panics
    /// Without any.
    #[must_use]
    pub fn concat(batches: &[Self]) -> Self {
        let data = batches.iter().flat_map(|batch| &batch.data).copied();
        let samples = batches.iter().map(Self::samples).sum();
        Self::new(data.collect(), samples)
    }

    /// The samples, each a slice in the denoiser's shape, row by row.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.size())
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a [f32];
    type IntoIter = std::slice::ChunksExact<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Space for Batch {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        let data: Vec<(f64, &Vec<f32>)> =
            terms.iter().map(|(c, batch)| (*c, &batch.data)).collect();
        Self {
            data: Space::combine(&data),
            samples: terms[0].1.samples,
        }
    }
}
