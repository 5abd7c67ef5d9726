//! Few-step samplers in data-prediction form, each a short function that reads like its paper.
//!
//! A sampler moves a state of any vector space ([`Space`]) down a list of noise [`Level`]s by asking a denoiser for the clean
//! image `E[x_0 | x_t]` ([`prediction`] turns what a network predicts into that). It holds for variance-preserving, EDM and
//! flow-matching models alike, since only `alpha`, `sigma` and their half log-SNR enter. Orders at the start and at the end are
//! diffusers', whose schedulers the samplers are tested against. Pure: no clock, no files, no threads.

mod brownian;
mod ddim;
mod deis;
mod dpmpp;
mod euler_ancestral;
mod heun;
mod ipndm;
mod lagrange;
mod level;
mod line;
pub mod prediction;
mod sde_dpmpp;
mod space;
mod unipc;

pub use brownian::{Brownian, BrownianTree, NoNoise, normals};
pub use level::{Level, levels};
pub use space::Space;
pub use unipc::Variant;

/// The denoiser as a sampler sees it: the clean image of a state at a level.
type Denoise<'a, X, E> = dyn FnMut(&X, &Level) -> Result<X, E> + 'a;

/// A sampler and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Exponential Euler; without noise (arXiv 2010.02502, eta = 0).
    Ddim,
    /// Trapezoidal rule with an Euler predictor, two evaluations a step (arXiv 2206.00364, without churn).
    Heun,
    /// Second-order multistep, midpoint (arXiv 2211.01095).
    Dpmpp2m,
    /// Multistep over three outputs (arXiv 2211.01095).
    Dpmpp3m,
    /// Predictor and corrector of `order` 1 to 3 (arXiv 2302.04867).
    Unipc {
        order: usize,
        variant: Variant,
        corrector: bool,
    },
    /// Exponential Adams-Bashforth in log-rho of `order` 1 to 3 (arXiv 2204.13902).
    Deis { order: usize },
    /// Adams-Bashforth with the weights of equal steps, `order` 1 to 4 (arXiv 2204.13902).
    Ipndm { order: usize },
    /// Euler with as much new noise as the posterior has (k-diffusion's `euler_ancestral`, eta = 1).
    EulerAncestral,
    /// DPM-Solver++(2M) of the SDE, midpoint (arXiv 2211.01095).
    SdeDpmpp2m,
}

impl Solver {
    /// Whether it draws noise on the way.
    #[must_use]
    pub fn is_stochastic(self) -> bool {
        matches!(self, Self::EulerAncestral | Self::SdeDpmpp2m)
    }

    /// How often [`sample`] calls the denoiser on these levels.
    #[must_use]
    pub fn evaluations(self, levels: &[Level]) -> usize {
        match self {
            Self::Heun => heun::evaluations(levels),
            _ => levels.len().saturating_sub(1),
        }
    }
}

/// Runs a solver from the first level, where `x` is, to the last; returns the state there. Where the last level is
/// clean that is the clean estimate.
///
/// Noise falls strictly from level to level, and only the first may be pure noise, only the last clean. An error of `denoise`
/// ends the run.
///
/// # Panics
/// When an order is outside its solver's range.
pub fn sample<X: Space, E>(
    solver: Solver,
    levels: &[Level],
    x: X,
    brownian: &mut dyn Brownian<X>,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    match solver {
        Solver::Ddim => ddim::sample(levels, x, denoise),
        Solver::Heun => heun::sample(levels, x, denoise),
        Solver::Dpmpp2m => dpmpp::sample(2, levels, x, denoise),
        Solver::Dpmpp3m => dpmpp::sample(3, levels, x, denoise),
        Solver::Unipc {
            order,
            variant,
            corrector,
        } => unipc::sample((order, variant, corrector), levels, x, denoise),
        Solver::Deis { order } => deis::sample(order, levels, x, denoise),
        Solver::Ipndm { order } => ipndm::sample(order, levels, x, denoise),
        Solver::EulerAncestral => euler_ancestral::sample(levels, x, brownian, denoise),
        Solver::SdeDpmpp2m => sde_dpmpp::sample(levels, x, brownian, denoise),
    }
}

/// Puts the newest before what a multistep solver remembers, and forgets what its order no longer needs.
fn remember<X>(recent: &mut Vec<X>, newest: X, order: usize) {
    recent.insert(0, newest);
    recent.truncate(order);
}

/// Order of step `i` of `n` in diffusers' multistep schedulers: one more every step at the start; one less every step at
/// the end of runs below 15 steps, where a high order on long steps does harm; first for a `last` step that must be.
fn order_of_step(order: usize, i: usize, n: usize, last_is_first_order: bool) -> usize {
    let at_end = if n < 15 {
        n - i
    } else if i + 1 == n && last_is_first_order {
        1
    } else {
        order
    };
    order.min(i + 1).min(at_end)
}
