//! The box that psi is searched in, and its clipping to the times a model has.
//!
//! Published: `rho` in [3, 16], `t_min` in [0.01, 0.03], `t_max` in [0.96, 1]. A model whose lambda is infinite at
//! `t = 1` is searched up to 0.999, one with a short training grid from its first timestep.

use crate::schedule::NoiseSchedule;

/// Least distance between the highest `t_min` and the lowest `t_max`.
pub const MIN_RANGE: f64 = 1e-3;
const RHO_LIMITS: (f64, f64) = (0.1, 1000.0);

/// Inclusive ranges of the genes of psi.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub rho: (f64, f64),
    pub t_min: (f64, f64),
    pub t_max: (f64, f64),
}

/// A box that no search can use; `field` is the gene to blame.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct BoundsError {
    pub field: &'static str,
    pub detail: String,
}

impl Bounds {
    /// The HSO paper's box.
    pub const PUBLISHED: Self = Self {
        rho: (3.0, 16.0),
        t_min: (0.01, 0.03),
        t_max: (0.96, 1.0),
    };

    /// The box cut to the times of `noise`; fails where a range is reversed or nothing is left to search.
    pub fn clipped(self, noise: &NoiseSchedule) -> Result<Self, BoundsError> {
        check("rho", self.rho, RHO_LIMITS)?;
        check("t_min", self.t_min, (0.0, 1.0))?;
        check("t_max", self.t_max, (0.0, 1.0))?;
        let (low, high) = noise.t_range();
        let clip = |(a, b): (f64, f64)| (a.clamp(low, high), b.clamp(low, high));
        let clipped = Self {
            rho: self.rho,
            t_min: clip(self.t_min),
            t_max: clip(self.t_max),
        };
        if clipped.t_max.0 - clipped.t_min.1 < MIN_RANGE {
            return Err(BoundsError {
                field: "t_max",
                detail: format!(
                    "must start at least {MIN_RANGE} above the end of t_min's range \
                     (here, within this model's times {low} to {high}: t_min up to {}, t_max from {})",
                    clipped.t_min.1, clipped.t_max.0
                ),
            });
        }
        Ok(clipped)
    }

    /// Ranges in the order (rho, `t_min`, `t_max`).
    #[must_use]
    pub fn as_genes(&self) -> [(f64, f64); 3] {
        [self.rho, self.t_min, self.t_max]
    }
}

fn check(
    field: &'static str,
    (low, high): (f64, f64),
    limits: (f64, f64),
) -> Result<(), BoundsError> {
    let detail = if low > high {
        format!("the range is reversed; write [{high}, {low}]")
    } else if low >= limits.0 && high <= limits.1 {
        return Ok(());
    } else {
        format!("must lie within [{}, {}]", limits.0, limits.1)
    };
    Err(BoundsError { field, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{NoiseSpec, VpTable};

    #[test]
    fn singular_models_are_searched_below_one() {
        let flow = NoiseSchedule::new(&NoiseSpec::Flow {
            shift: 3.0,
            steps: 1000,
        })
        .unwrap();
        let bounds = Bounds::PUBLISHED.clipped(&flow).unwrap();
        assert_eq!(bounds.t_max, (0.96, 0.999));
    }

    #[test]
    fn reversed_and_overlapping_ranges_are_refused_by_name() {
        let noise = NoiseSchedule::new(&NoiseSpec::Vp(VpTable::linear(1e-4, 0.02, 1000))).unwrap();
        let reversed = Bounds {
            t_min: (0.03, 0.01),
            ..Bounds::PUBLISHED
        };
        assert_eq!(reversed.clipped(&noise).unwrap_err().field, "t_min");
        let overlapping = Bounds {
            t_min: (0.01, 0.97),
            ..Bounds::PUBLISHED
        };
        assert_eq!(overlapping.clipped(&noise).unwrap_err().field, "t_max");
        let nan = Bounds {
            rho: (f64::NAN, 7.0),
            ..Bounds::PUBLISHED
        };
        assert_eq!(nan.clipped(&noise).unwrap_err().field, "rho");
    }
}
