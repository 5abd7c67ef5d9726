//! The shift of flow-matching models: static, or dynamic in the number of image tokens.
//!
//! `sigma = s t / (1 + (s - 1) t)`; a dynamic shift interpolates `mu` linearly in the token count and uses `s = exp(mu)`
//! (FLUX, Qwen-Image, LTX) or `s = mu` (`CogView4`). Source: diffusers' `FlowMatchEulerDiscreteScheduler` and the
//! `calculate_shift` of its pipelines.

/// What turns `mu` into a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShiftKind {
    Exponential,
    Linear,
}

/// A shift that depends on resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicShift {
    pub kind: ShiftKind,
    /// `(tokens, mu)` at the small end.
    pub base: (u32, f64),
    /// `(tokens, mu)` at the large end.
    pub max: (u32, f64),
    /// Image pixels along one side of a token.
    pub patch: u32,
}

/// The shift of a flow-matching model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    Static(f64),
    Dynamic(DynamicShift),
}

impl Shift {
    /// The effective shift for images of `width` x `height` pixels.
    #[must_use]
    pub fn at(&self, width: u32, height: u32) -> f64 {
        match self {
            Self::Static(shift) => *shift,
            Self::Dynamic(dynamic) => dynamic.at(width, height),
        }
    }
}

impl DynamicShift {
    fn at(&self, width: u32, height: u32) -> f64 {
        let tokens = f64::from(width / self.patch) * f64::from(height / self.patch);
        let ((low, mu_low), (high, mu_high)) = (self.base, self.max);
        let slope = (mu_high - mu_low) / (f64::from(high) - f64::from(low));
        let mu = mu_low + slope * (tokens - f64::from(low));
        match self.kind {
            ShiftKind::Exponential => libm::exp(mu),
            ShiftKind::Linear => mu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flux_shift_follows_resolution() {
        let flux = Shift::Dynamic(DynamicShift {
            kind: ShiftKind::Exponential,
            base: (256, 0.5),
            max: (4096, 1.15),
            patch: 16,
        });
        assert!((libm::log(flux.at(1024, 1024)) - 1.15).abs() < 1e-12);
        assert!((libm::log(flux.at(512, 512)) - 0.63).abs() < 1e-12);
        assert!((flux.at(1024, 1024) - 3.158).abs() < 1e-3);
    }
}
