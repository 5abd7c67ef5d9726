//! How far samples end from where they should: one root mean square a sample, and what a set of them says.
//!
//! The mean over samples of each one's RMSE is what searches minimise and answers report: a squared error would let a few bad
//! samples lead, which over-fits.

use crate::denoiser::Batch;

/// Errors of a set of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorStats {
    /// Mean of the per-sample RMSE, in the units of the samples.
    pub mean: f64,
    pub median: f64,
    /// Standard error of the mean.
    pub stderr: f64,
    pub samples: usize,
}

/// Root mean square difference of every sample to its target.
fn per_sample_rmse(samples: &Batch, targets: &Batch) -> Vec<f64> {
    samples
        .iter()
        .zip(targets)
        .map(|(sample, target)| {
            let squares: f64 = sample
                .iter()
                .zip(target)
                .map(|(a, b)| f64::from(a - b) * f64::from(a - b))
                .sum();
            libm::sqrt(squares / sample.len() as f64)
        })
        .collect()
}

impl ErrorStats {
    /// How far samples are from their targets.
    #[must_use]
    pub fn between(samples: &Batch, targets: &Batch) -> Self {
        Self::of(&per_sample_rmse(samples, targets))
    }

    /// # Panics
    /// Without any sample.
    fn of(errors: &[f64]) -> Self {
        let n = errors.len();
        let mean = errors.iter().sum::<f64>() / n as f64;
        let spread: f64 = errors.iter().map(|e| (e - mean) * (e - mean)).sum();
        let mut sorted = errors.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
        Self {
            mean,
            median,
            stderr: libm::sqrt(spread / (n * (n - 1).max(1)) as f64),
            samples: n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_root_mean_squares_of_each_sample() {
        let samples = Batch::new(vec![1.0, 1.0, 0.0, 4.0], 2);
        let targets = Batch::new(vec![0.0, 0.0, 0.0, 0.0], 2);
        let errors = per_sample_rmse(&samples, &targets);
        assert_eq!(errors, [1.0, libm::sqrt(8.0)]);
        let stats = ErrorStats::of(&[1.0, 2.0, 6.0]);
        assert_eq!((stats.mean, stats.median), (3.0, 2.0));
        assert!((stats.stderr - libm::sqrt(14.0 / 6.0)).abs() < 1e-12);
    }
}
