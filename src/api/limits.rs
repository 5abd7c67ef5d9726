//! What a request may ask for at most. Every refusal names its limit.

/// Denoiser evaluations a schedule may have.
pub const MAX_NFE: u64 = 256;
/// Estimated work of a search, in units of about a microsecond on one core. The largest default request needs a million.
pub const MAX_WORK: u64 = 120_000_000;
/// Units of work an interval costs in one fitness evaluation: a smooth objective, and one with kinks.
pub(super) const SMOOTH_INTERVAL: u64 = 1;
pub(super) const KINKED_INTERVAL: u64 = 150;

pub(super) const POPULATION: (u32, u32) = (1, 200);
pub(super) const GENERATIONS: (u32, u32) = (1, 1000);
pub(super) const TOLERANCE: (f64, f64) = (0.0, 1.0);
pub(super) const P: (f64, f64) = (0.0, 8.0);
pub(super) const GAMMA: (f64, f64) = (0.0, 1e15);
pub(super) const D_MIN: (f64, f64) = (0.0, 1.0);
/// The largest whole number that JSON numbers carry exactly.
pub(super) const MAX_SEED: u64 = (1 << 53) - 1;
/// Betas or `alphas_cumprod` entries of an inline table.
pub(super) const MAX_TABLE: usize = 10_000;

pub(super) const SAMPLES: (u32, u32) = (4, 1024);
pub(super) const VALIDATION_SAMPLES: (u32, u32) = (2, 4096);
pub(super) const BUDGET: (u32, u32) = (0, 2000);
pub(super) const GUIDANCE_SCALE: (f64, f64) = (0.0, 30.0);
pub(super) const PICTURES: (u32, u32) = (0, 4);
/// Prompts of a calibration, and characters of one.
pub(super) const MAX_PROMPTS: usize = 64;
pub(super) const MAX_PROMPT: usize = 2000;
/// Denoiser evaluations of a schedule that calibrations take.
pub(super) const MAX_CALIBRATED_NFE: u16 = 32;
/// Denoiser evaluations a calibration may take, one a sample.
pub(super) const MAX_EVALUATIONS: u64 = 4_000_000;
