//! What a sampling schedule is, and everything that is known about one without searching.
//!
//! A [`Schedule`] is a strictly descending list of times with the noise levels they stand for, plus the [`Terminal`]
//! convention that says how the sample leaves the last point. [`NoiseSchedule`] is the map between time, log-SNR and
//! noise level that the times live on; [`NoiseSpec`] is its description in parameters; [`families`] are the built-in
//! models; [`rules`] are the schedules people use today. Pure: no clock, no files, no threads.

pub mod families;
mod noise;
pub mod rules;
mod scheduler_config;
mod shift;
mod spec;
mod training_grid;

pub use noise::NoiseSchedule;
pub use scheduler_config::{ConfigError, SchedulerConfig};
pub use shift::{DynamicShift, Shift, ShiftKind};
pub use spec::{Betas, NoiseError, NoiseSpec, Prediction, VpTable};

use serde::{Deserialize, Serialize};

/// How a sample leaves the last point of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// N evaluations over N+1 points; the sample is the state at `t_min`, with that noise still in it.
    TMin,
    /// N evaluations at N points; the last one jumps from `t_min` to the clean estimate.
    Denoise,
}

impl Terminal {
    /// Points of a schedule with `nfe` single-evaluation steps.
    #[must_use]
    pub fn points(self, nfe: usize) -> usize {
        match self {
            Self::TMin => nfe + 1,
            Self::Denoise => nfe,
        }
    }
}

/// A schedule on one noise schedule: times descend, `lambdas` (half log-SNR) ascend, both have one entry a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    t: Vec<f64>,
    lambdas: Vec<f64>,
    terminal: Terminal,
}

/// A list of points that is no schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    #[error("a schedule needs at least one point")]
    Empty,
    #[error("point {index} is not below the one before it: {previous} then {value}")]
    NotDescending {
        index: usize,
        previous: f64,
        value: f64,
    },
    #[error("snapping needs a model with a training grid of discrete timesteps")]
    NoGrid,
    #[error(
        "{points} points do not fit on the {available} training timesteps between t_min and t_max"
    )]
    GridTooSmall { points: usize, available: usize },
}

impl Schedule {
    /// Builds a schedule from half log-SNRs in sampling order (ascending).
    pub fn from_lambdas(
        noise: &NoiseSchedule,
        lambdas: Vec<f64>,
        terminal: Terminal,
    ) -> Result<Self, ScheduleError> {
        let t = lambdas.iter().map(|&lambda| noise.t(lambda)).collect();
        Self::checked(t, lambdas, terminal)
    }

    /// The same with the end times given, which a round trip through lambda would leave a last bit off.
    pub fn between(
        noise: &NoiseSchedule,
        (t_max, t_min): (f64, f64),
        lambdas: Vec<f64>,
        terminal: Terminal,
    ) -> Result<Self, ScheduleError> {
        let mut t: Vec<f64> = lambdas.iter().map(|&lambda| noise.t(lambda)).collect();
        if let [first, .., last] = t.as_mut_slice() {
            (*first, *last) = (t_max, t_min);
        }
        Self::checked(t, lambdas, terminal)
    }

    fn checked(t: Vec<f64>, lambdas: Vec<f64>, terminal: Terminal) -> Result<Self, ScheduleError> {
        check_descending(&t)?;
        Ok(Self {
            t,
            lambdas,
            terminal,
        })
    }

    /// Times, descending.
    #[must_use]
    pub fn t(&self) -> &[f64] {
        &self.t
    }

    /// Half log-SNR of every point, ascending.
    #[must_use]
    pub fn lambdas(&self) -> &[f64] {
        &self.lambdas
    }

    #[must_use]
    pub fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// Gaps `t_i - t_{i+1}` between neighbouring points.
    pub fn gaps(&self) -> impl Iterator<Item = f64> + '_ {
        self.t.windows(2).map(|pair| pair[0] - pair[1])
    }

    /// What the network is called with: one entry per evaluation.
    #[must_use]
    pub fn timesteps(&self, noise: &NoiseSchedule) -> Vec<f64> {
        let evaluations = match self.terminal {
            Terminal::TMin => self.t.len() - 1,
            Terminal::Denoise => self.t.len(),
        };
        self.t[..evaluations]
            .iter()
            .map(|&t| noise.timestep(t))
            .collect()
    }

    /// Moves every point to its nearest training timestep, keeping their number and strict order.
    ///
    /// Points that meet on one timestep are pushed apart by the smallest whole steps that restore the order.
    pub fn snapped(&self, noise: &NoiseSchedule) -> Result<Self, ScheduleError> {
        let steps = noise.grid_steps().ok_or(ScheduleError::NoGrid)?;
        let (low, high) = noise.t_range();
        let index = |t: f64| libm::round(t * steps as f64) as i64;
        let (lowest, highest) = (index(low), index(high));
        let points = self.t.len() as i64;
        let available = highest - lowest + 1;
        if points > available {
            return Err(ScheduleError::GridTooSmall {
                points: self.t.len(),
                available: available.max(0) as usize,
            });
        }
        let mut snapped: Vec<i64> = self.t.iter().map(|&t| index(t)).collect();
        let mut ceiling = highest;
        for (i, n) in snapped.iter_mut().enumerate() {
            let floor = lowest + points - 1 - i as i64;
            *n = (*n).min(ceiling).max(floor);
            ceiling = *n - 1;
        }
        let t: Vec<f64> = snapped.iter().map(|&n| n as f64 / steps as f64).collect();
        let lambdas = t.iter().map(|&t| noise.lambda(t)).collect();
        Ok(Self {
            t,
            lambdas,
            terminal: self.terminal,
        })
    }
}

fn check_descending(t: &[f64]) -> Result<(), ScheduleError> {
    if t.is_empty() {
        return Err(ScheduleError::Empty);
    }
    for (i, pair) in t.windows(2).enumerate() {
        if pair[1].partial_cmp(&pair[0]) != Some(std::cmp::Ordering::Less) {
            return Err(ScheduleError::NotDescending {
                index: i + 1,
                previous: pair[0],
                value: pair[1],
            });
        }
    }
    Ok(())
}
