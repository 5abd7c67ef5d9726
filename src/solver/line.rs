//! The scaling in which a sampler works whose result depends on one: `y = x / c` over the noise level `sigma / c`.
//!
//! A constant prediction moves `y` along a straight line in either: `c = alpha`, EDM's and k-diffusion's, and `c = 1` for flow
//! matching, whose own time is already straight. Both are what diffusers' and k-diffusion's samplers do on such models.

use super::{Level, Space};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `alpha + sigma = 1` throughout.
    Flow,
    /// Everything else.
    Edm,
}

impl Line {
    pub(super) fn of(levels: &[Level]) -> Self {
        let on_flow = |level: &Level| (level.alpha + level.sigma - 1.0).abs() < 1e-9;
        if levels.iter().all(on_flow) {
            Self::Flow
        } else {
            Self::Edm
        }
    }

    /// The scale `c`; 0 only for a variance-preserving state of pure noise.
    pub(super) fn scale(self, level: &Level) -> f64 {
        match self {
            Self::Flow => 1.0,
            Self::Edm => level.alpha,
        }
    }

    /// `dy / ds = (x - c x_0) / sigma`: the noise under EDM's scaling, the velocity under flow matching's.
    pub(super) fn derivative<X: Space>(self, x: &X, x0: &X, level: &Level) -> X {
        X::combine(&[
            (1.0 / level.sigma, x),
            (-self.scale(level) / level.sigma, x0),
        ])
    }

    /// Weights of the state and of the slope in `y_t = y_s + (sigma_t / c_t - sigma_s / c_s) d`, undone from their scale.
    pub(super) fn step(self, s: &Level, t: &Level) -> (f64, f64) {
        let ratio = self.scale(t) / self.scale(s);
        (ratio, t.sigma - ratio * s.sigma)
    }
}
