//! Noise levels a sampler stops at: `x_t = alpha x_0 + sigma noise` and what the network is called with there.

use crate::schedule::{NoiseSchedule, Schedule, Terminal};

/// One noise level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What the network is called with; at a clean end, where it is never called, 0.
    pub timestep: f64,
    /// Scale of the clean image.
    pub alpha: f64,
    /// Standard deviation of the noise; 0 at a clean end.
    pub sigma: f64,
}

impl Level {
    /// No noise at all.
    pub const CLEAN: Self = Self {
        timestep: 0.0,
        alpha: 1.0,
        sigma: 0.0,
    };

    /// The level of half log-SNR `lambda`.
    #[must_use]
    pub fn at(noise: &NoiseSchedule, lambda: f64) -> Self {
        let alpha = noise.alpha(lambda);
        Self {
            timestep: noise.timestep(noise.t(lambda)),
            alpha,
            sigma: alpha * libm::exp(-lambda),
        }
    }

    /// Whether there is no noise left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.sigma == 0.0
    }

    /// Half log-SNR; infinite at a clean end, minus infinity at pure noise.
    #[must_use]
    pub fn lambda(&self) -> f64 {
        libm::log(self.alpha) - libm::log(self.sigma)
    }
}

/// The levels of a schedule, one more than it has steps: its points, and the clean end where it jumps there.
#[must_use]
pub fn levels(noise: &NoiseSchedule, schedule: &Schedule) -> Vec<Level> {
    let mut levels: Vec<Level> = schedule
        .lambdas()
        .iter()
        .map(|&lambda| Level::at(noise, lambda))
        .collect();
    if schedule.terminal() == Terminal::Denoise {
        levels.push(Level::CLEAN);
    }
    levels
}
