//! A noise schedule as its parameters: what a digest is taken of and [`NoiseSchedule`] is built from.
//!
//! Names and defaults are diffusers' (`beta_schedule`, `rescale_betas_zero_snr`, `snr_shift_scale`). Note the naming
//! trap: latent diffusion's "linear" is `scaled_linear` here, and its `sqrt_linear` is `linear`.
//!
//! [`NoiseSchedule`]: super::NoiseSchedule

use serde::{Deserialize, Serialize};

/// What a network predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    Epsilon,
    VPrediction,
    Sample,
    FlowPrediction,
    /// EDM's preconditioned network (arXiv 2206.00364).
    Edm,
}

/// A noise schedule's effective parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum NoiseSpec {
    /// Discrete variance-preserving model on a training grid.
    Vp(VpTable),
    /// Continuous VP-SDE with `beta(t) = beta_min + beta_d t`, sampled down to `epsilon_s`.
    VpSde {
        beta_d: f64,
        beta_min: f64,
        epsilon_s: f64,
    },
    /// EDM noise range, `alpha = 1`.
    Edm { sigma_min: f64, sigma_max: f64 },
    /// Flow matching with the effective (resolution already applied) `shift` and `steps` training timesteps.
    Flow { shift: f64, steps: u32 },
}

/// Discrete variance-preserving schedule: betas (or `alphas_cumprod`) and what is done to them afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct VpTable {
    pub betas: Betas,
    /// CogVideoX: divide the signal-to-noise ratio by this first.
    pub snr_shift_scale: Option<f64>,
    /// Then make the last signal-to-noise ratio zero (arXiv 2305.08891).
    pub rescale_betas_zero_snr: bool,
}

/// Where the table of a discrete model comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Betas {
    /// Betas evenly spaced.
    Linear {
        start: f64,
        end: f64,
        steps: u32,
    },
    /// Square roots of betas evenly spaced (latent diffusion).
    ScaledLinear {
        start: f64,
        end: f64,
        steps: u32,
    },
    /// Nichol and Dhariwal's cosine, betas capped at 0.999.
    SquaredcosCapV2 {
        steps: u32,
    },
    Trained(Vec<f64>),
    AlphasCumprod(Vec<f64>),
}

impl VpTable {
    #[must_use]
    pub const fn new(betas: Betas) -> Self {
        Self {
            betas,
            snr_shift_scale: None,
            rescale_betas_zero_snr: false,
        }
    }

    #[must_use]
    pub const fn linear(start: f64, end: f64, steps: u32) -> Self {
        Self::new(Betas::Linear { start, end, steps })
    }

    #[must_use]
    pub const fn scaled_linear(start: f64, end: f64, steps: u32) -> Self {
        Self::new(Betas::ScaledLinear { start, end, steps })
    }

    #[must_use]
    pub const fn squaredcos_cap_v2(steps: u32) -> Self {
        Self::new(Betas::SquaredcosCapV2 { steps })
    }

    /// Rescaled to zero terminal SNR.
    #[must_use]
    pub const fn zero_terminal_snr(mut self) -> Self {
        self.rescale_betas_zero_snr = true;
        self
    }

    /// With the signal-to-noise ratio divided by `scale`.
    #[must_use]
    pub const fn snr_shifted(mut self, scale: f64) -> Self {
        self.snr_shift_scale = Some(scale);
        self
    }

    /// The parameter to blame when the table is unusable.
    pub(super) fn field(&self) -> &'static str {
        match self.betas {
            Betas::Linear { .. } | Betas::ScaledLinear { .. } => "beta_end",
            Betas::SquaredcosCapV2 { .. } => "steps",
            Betas::Trained(_) => "betas",
            Betas::AlphasCumprod(_) => "alphas_cumprod",
        }
    }

    /// `ln(alpha_bar)` of every training timestep.
    pub(super) fn log_alpha_bar(&self) -> Result<Vec<f64>, NoiseError> {
        match &self.betas {
            &Betas::Linear { start, end, steps } => {
                check_betas(start, end, steps)?;
                Ok(accumulate(linspace(start, end, steps)))
            }
            &Betas::ScaledLinear { start, end, steps } => {
                check_betas(start, end, steps)?;
                let roots = linspace(libm::sqrt(start), libm::sqrt(end), steps);
                Ok(accumulate(roots.map(|root| root * root)))
            }
            &Betas::SquaredcosCapV2 { steps } => {
                check_steps(steps)?;
                Ok(accumulate(cosine_betas(steps)))
            }
            Betas::Trained(betas) => {
                check_each("betas", betas)?;
                Ok(accumulate(betas.iter().copied()))
            }
            Betas::AlphasCumprod(alphas) => {
                check_each("alphas_cumprod", alphas)?;
                Ok(alphas
                    .iter()
                    .map(|&alpha_bar| libm::log(alpha_bar))
                    .collect())
            }
        }
    }
}

/// Parameters that describe no usable noise schedule. `field` names the parameter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct NoiseError {
    pub field: &'static str,
    pub detail: String,
}

impl NoiseError {
    pub(super) fn new(field: &'static str, detail: impl Into<String>) -> Self {
        Self {
            field,
            detail: detail.into(),
        }
    }
}

/// Checks a parameter that is above 0 and at most `limit`.
pub(super) fn positive(field: &'static str, value: f64, limit: f64) -> Result<(), NoiseError> {
    if value > 0.0 && value <= limit {
        return Ok(());
    }
    Err(NoiseError::new(
        field,
        format!("must be above 0 and at most {limit}"),
    ))
}

fn check_steps(steps: u32) -> Result<(), NoiseError> {
    if (2..=100_000).contains(&steps) {
        return Ok(());
    }
    Err(NoiseError::new("steps", "must be from 2 to 100000"))
}

fn check_betas(start: f64, end: f64, steps: u32) -> Result<(), NoiseError> {
    check_steps(steps)?;
    for (field, beta) in [("beta_start", start), ("beta_end", end)] {
        if !(beta > 0.0 && beta < 1.0) {
            return Err(NoiseError::new(field, "must be above 0 and below 1"));
        }
    }
    Ok(())
}

fn check_each(field: &'static str, values: &[f64]) -> Result<(), NoiseError> {
    match values.iter().position(|v| !(*v > 0.0 && *v < 1.0)) {
        None => Ok(()),
        Some(n) => Err(NoiseError::new(
            field,
            format!("entry {n} must be above 0 and below 1"),
        )),
    }
}

fn linspace(start: f64, end: f64, steps: u32) -> impl Iterator<Item = f64> {
    let last = f64::from(steps - 1);
    (0..steps).map(move |n| start + (end - start) * (f64::from(n) / last))
}

/// `beta_n = min(1 - f(n + 1) / f(n), 0.999)` with `f(n) = cos^2((n / T + 0.008) / 1.008 * pi / 2)` (arXiv 2102.09672).
fn cosine_betas(steps: u32) -> impl Iterator<Item = f64> {
    let alpha_bar = move |n: u32| {
        let angle = (f64::from(n) / f64::from(steps) + 0.008) / 1.008;
        let cosine = libm::cos(angle * std::f64::consts::FRAC_PI_2);
        cosine * cosine
    };
    (0..steps).map(move |n| (1.0 - alpha_bar(n + 1) / alpha_bar(n)).min(0.999))
}

/// Running sum of `ln(1 - beta)`.
fn accumulate(betas: impl Iterator<Item = f64>) -> Vec<f64> {
    betas
        .scan(0.0, |total, beta| {
            *total += libm::log1p(-beta);
            Some(*total)
        })
        .collect()
}
