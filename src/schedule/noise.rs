//! The map between time, half log-SNR and noise level of one model: `t <-> lambda <-> sigma`, all in f64.
//!
//! `lambda = ln(alpha / sigma)` falls strictly as `t` grows. A discrete variance-preserving model is exact at its
//! training grid `t_n = (n + 1) / T` and interpolates `ln(alpha)` linearly in `t` between grid points, as DPM-Solver
//! does. For flow matching `t` is the uniform time *before* the shift, so that spacing means the same at every shift.
//! Where lambda is infinite at `t = 1` (flow matching, zero-terminal-SNR), [`NoiseSchedule::t_range`] ends below 1.

use super::spec::{NoiseError, NoiseSpec, positive};
use super::training_grid::{
    discrete_log_alpha, grid_position, interpolate, invert, lambda_of_log_alpha,
    log_alpha_of_lambda,
};

/// Where searches stop for models whose lambda is infinite at `t = 1`.
const SINGULAR_T_MAX: f64 = 0.999;
/// EDM's own spacing exponent (arXiv 2206.00364, table 1); it defines `t` for sigma-range models.
const EDM_RHO: f64 = 7.0;
/// `M` of EDM's VP preconditioning: the network is called with `(M - 1) t`.
const VP_SDE_STEPS: f64 = 1000.0;
/// A compiled noise schedule. Cheap to query, immutable; built from a [`NoiseSpec`].
#[derive(Clone, Debug)]
pub struct NoiseSchedule {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `log_alpha[n]` at `t = (n + 1) / T`, strictly falling; the last may be `-inf` (zero terminal SNR).
    Discrete { log_alpha: Vec<f64> },
    /// Linear VP-SDE of Song et al.: `ln(alpha) = -(beta_d t^2 / 2 + beta_min t) / 2`.
    VpSde {
        beta_d: f64,
        beta_min: f64,
        epsilon_s: f64,
    },
    /// `alpha = 1`, `t` linear in `sigma^(1/7)`; the bounds are stored as those roots.
    Edm { root_min: f64, root_max: f64 },
    /// `alpha = 1 - sigma`, `sigma = s t / (1 + (s - 1) t)`; called with `steps * sigma`.
    Flow { shift: f64, steps: f64 },
}

impl NoiseSchedule {
    /// Compiles a description; fails when it describes no strictly falling signal-to-noise ratio.
    pub fn new(spec: &NoiseSpec) -> Result<Self, NoiseError> {
        let kind = match spec {
            NoiseSpec::Vp(table) => Kind::Discrete {
                log_alpha: discrete_log_alpha(table)?,
            },
            &NoiseSpec::VpSde {
                beta_d,
                beta_min,
                epsilon_s,
            } => {
                positive("beta_d", beta_d, 100.0)?;
                positive("beta_min", beta_min, 100.0)?;
                positive("epsilon_s", epsilon_s, 0.1)?;
                Kind::VpSde {
                    beta_d,
                    beta_min,
                    epsilon_s,
                }
            }
            &NoiseSpec::Edm {
                sigma_min,
                sigma_max,
            } => {
                positive("sigma_min", sigma_min, 1e6)?;
                positive("sigma_max", sigma_max, 1e6)?;
                if sigma_min < 1e-6 || sigma_max < 1.01 * sigma_min {
                    return Err(NoiseError::new(
                        "sigma_max",
                        "needs 1e-6 <= sigma_min and sigma_max at least 1 % above it",
                    ));
                }
                Kind::Edm {
                    root_min: libm::pow(sigma_min, 1.0 / EDM_RHO),
                    root_max: libm::pow(sigma_max, 1.0 / EDM_RHO),
                }
            }
            &NoiseSpec::Flow { shift, steps } => {
                if !(1e-3..=1e3).contains(&shift) {
                    return Err(NoiseError::new("shift", "must be from 0.001 to 1000"));
                }
                if !(2..=100_000).contains(&steps) {
                    return Err(NoiseError::new("steps", "must be from 2 to 100000"));
                }
                Kind::Flow {
                    shift,
                    steps: f64::from(steps),
                }
            }
        };
        Ok(Self { kind })
    }

    /// Half log-SNR at time `t`; infinite only at the end points of singular models.
    #[must_use]
    pub fn lambda(&self, t: f64) -> f64 {
        match &self.kind {
            Kind::Discrete { log_alpha } => lambda_of_log_alpha(interpolate(log_alpha, t)),
            Kind::VpSde {
                beta_d, beta_min, ..
            } => lambda_of_log_alpha(-0.5 * t * (0.5 * beta_d * t + beta_min)),
            Kind::Edm { root_min, root_max } => {
                -EDM_RHO * libm::log(root_min + t * (root_max - root_min))
            }
            Kind::Flow { shift, .. } => libm::log((1.0 - t) / (shift * t)),
        }
    }

    /// Time at half log-SNR `lambda`: the inverse of [`Self::lambda`], clamped to the model's times.
    #[must_use]
    pub fn t(&self, lambda: f64) -> f64 {
        match &self.kind {
            Kind::Discrete { log_alpha } => invert(log_alpha, log_alpha_of_lambda(lambda)),
            Kind::VpSde {
                beta_d, beta_min, ..
            } => {
                let c = -2.0 * log_alpha_of_lambda(lambda);
                2.0 * c / (beta_min + libm::sqrt(beta_min * beta_min + 2.0 * beta_d * c))
            }
            Kind::Edm { root_min, root_max } => {
                (libm::exp(-lambda / EDM_RHO) - root_min) / (root_max - root_min)
            }
            Kind::Flow { shift, .. } => 1.0 / (1.0 + shift * libm::exp(lambda)),
        }
    }

    /// Slope `dt / dlambda` (negative); one-sided at the training grid's points, where it jumps.
    #[must_use]
    pub fn t_slope(&self, lambda: f64) -> f64 {
        // d ln(alpha) / dlambda = sigma^2 of a variance-preserving pair.
        let sigma2 = 1.0 / (1.0 + libm::exp(2.0 * lambda));
        match &self.kind {
            Kind::Discrete { log_alpha } => {
                let target = log_alpha_of_lambda(lambda);
                let last_finite = log_alpha.len() - 1 - usize::from(self.is_singular());
                let after = log_alpha
                    .partition_point(|&la| la >= target)
                    .clamp(1, last_finite);
                let rise = log_alpha[after - 1] - log_alpha[after];
                -sigma2 / (rise * log_alpha.len() as f64)
            }
            Kind::VpSde {
                beta_d, beta_min, ..
            } => -2.0 * sigma2 / (beta_d * self.t(lambda) + beta_min),
            Kind::Edm { root_min, root_max } => {
                -libm::exp(-lambda / EDM_RHO) / (EDM_RHO * (root_max - root_min))
            }
            Kind::Flow { .. } => {
                let t = self.t(lambda);
                -t * (1.0 - t)
            }
        }
    }

    /// Noise level as consumers count it: `sigma / alpha` for VP and EDM models, the final shifted sigma for flow models.
    #[must_use]
    pub fn sigma(&self, lambda: f64) -> f64 {
        match self.kind {
            Kind::Flow { .. } => 1.0 / (1.0 + libm::exp(lambda)),
            _ => libm::exp(-lambda),
        }
    }

    /// Half log-SNR of a noise level in the units of [`Self::sigma`].
    #[must_use]
    pub fn lambda_of_sigma(&self, sigma: f64) -> f64 {
        match self.kind {
            Kind::Flow { .. } => libm::log((1.0 - sigma) / sigma),
            _ => -libm::log(sigma),
        }
    }

    /// Scale of the clean image in `x_t = alpha x_0 + sigma noise`.
    #[must_use]
    pub fn alpha(&self, lambda: f64) -> f64 {
        match self.kind {
            Kind::Discrete { .. } | Kind::VpSde { .. } => libm::exp(log_alpha_of_lambda(lambda)),
            Kind::Edm { .. } => 1.0,
            Kind::Flow { .. } => 1.0 / (1.0 + libm::exp(-lambda)),
        }
    }

    /// What the network is called with at time `t`: `t T - 1` (discrete VP), `1000 sigma` (flow), `ln(sigma) / 4` (EDM).
    #[must_use]
    pub fn timestep(&self, t: f64) -> f64 {
        match &self.kind {
            Kind::Discrete { log_alpha } => grid_position(t, log_alpha.len()),
            Kind::VpSde { .. } => (VP_SDE_STEPS - 1.0) * t,
            Kind::Edm { .. } => -0.25 * self.lambda(t),
            Kind::Flow { shift, steps } => steps * shift * t / (1.0 + (shift - 1.0) * t),
        }
    }

    /// The times with a finite lambda that a schedule may use, lowest first.
    #[must_use]
    pub fn t_range(&self) -> (f64, f64) {
        match &self.kind {
            Kind::Discrete { log_alpha } => {
                let steps = log_alpha.len() as f64;
                let high = if self.is_singular() {
                    SINGULAR_T_MAX.min((steps - 1.0) / steps)
                } else {
                    1.0
                };
                (1.0 / steps, high)
            }
            Kind::VpSde { epsilon_s, .. } => (*epsilon_s, 1.0),
            Kind::Edm { .. } => (0.0, 1.0),
            Kind::Flow { steps, .. } => (1.0 / steps, SINGULAR_T_MAX.min(1.0 - 1.0 / steps)),
        }
    }

    /// Whether lambda is infinite at `t = 1`, so that [`Self::t_range`] ends below it.
    #[must_use]
    pub fn is_singular(&self) -> bool {
        match &self.kind {
            Kind::Discrete { log_alpha } => log_alpha.last().is_some_and(|la| la.is_infinite()),
            Kind::Flow { .. } => true,
            Kind::VpSde { .. } | Kind::Edm { .. } => false,
        }
    }

    /// Number of training timesteps, where the model has a grid of them.
    #[must_use]
    pub fn grid_steps(&self) -> Option<usize> {
        match &self.kind {
            Kind::Discrete { log_alpha } => Some(log_alpha.len()),
            _ => None,
        }
    }

    /// Whether this is a flow-matching (rectified flow) model.
    #[must_use]
    pub fn is_flow(&self) -> bool {
        matches!(self.kind, Kind::Flow { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Betas, VpTable};
    use super::*;

    fn stable_diffusion() -> NoiseSchedule {
        NoiseSchedule::new(&NoiseSpec::Vp(VpTable::scaled_linear(0.00085, 0.012, 1000))).unwrap()
    }

    #[test]
    fn stable_diffusion_ends_are_the_published_sigmas() {
        let noise = stable_diffusion();
        let sigma = |t: f64| noise.sigma(noise.lambda(t));
        assert!((sigma(0.001) - 0.029_167_2).abs() < 1e-6);
        assert!((sigma(1.0) - 14.614_641).abs() < 1e-5);
        assert_eq!(noise.timestep(0.7), 699.0);
    }

    #[test]
    fn time_and_lambda_are_inverse_for_every_kind() {
        let specs = [
            NoiseSpec::Vp(VpTable::scaled_linear(0.00085, 0.012, 1000)),
            NoiseSpec::Vp(VpTable::squaredcos_cap_v2(1000)),
            NoiseSpec::Vp(VpTable::scaled_linear(0.00085, 0.012, 1000).zero_terminal_snr()),
            NoiseSpec::VpSde {
                beta_d: 19.9,
                beta_min: 0.1,
                epsilon_s: 1e-3,
            },
            NoiseSpec::Edm {
                sigma_min: 0.002,
                sigma_max: 80.0,
            },
            NoiseSpec::Flow {
                shift: 3.0,
                steps: 1000,
            },
        ];
        for spec in &specs {
            let noise = NoiseSchedule::new(spec).unwrap();
            let (low, high) = noise.t_range();
            for k in 0..=1234 {
                let t = low + (high - low) * f64::from(k) / 1234.0;
                let back = noise.t(noise.lambda(t));
                assert!((back - t).abs() < 1e-9, "{spec:?}: {t} came back as {back}");
                let lambda = noise.lambda(t);
                if k > 0 && k < 1234 {
                    // away from a grid point, where the slope jumps
                    let h = 1e-7;
                    let difference = (noise.t(lambda + h) - noise.t(lambda - h)) / (2.0 * h);
                    let slope = noise.t_slope(lambda);
                    assert!(
                        (slope / difference - 1.0).abs() < 0.02,
                        "{spec:?}: slope at {t} is {slope}, not {difference}"
                    );
                }
                let again = noise.lambda_of_sigma(noise.sigma(lambda));
                assert!((again - lambda).abs() < 1e-9 * lambda.abs().max(1.0));
            }
        }
    }

    #[test]
    fn vp_sde_and_edm_ends_are_the_published_sigmas() {
        let vp = NoiseSchedule::new(&NoiseSpec::VpSde {
            beta_d: 19.9,
            beta_min: 0.1,
            epsilon_s: 1e-3,
        })
        .unwrap();
        assert!((vp.sigma(vp.lambda(1.0)) - 152.167).abs() < 1e-3);
        assert!((vp.sigma(vp.lambda(1e-3)) - 0.010_486).abs() < 1e-6);
        let edm = NoiseSchedule::new(&NoiseSpec::Edm {
            sigma_min: 0.002,
            sigma_max: 80.0,
        })
        .unwrap();
        assert!((edm.sigma(edm.lambda(0.0)) - 0.002).abs() < 1e-12);
        assert!((edm.timestep(1.0) - libm::log(80.0) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn zero_terminal_snr_stops_below_its_singular_end() {
        let noise = NoiseSchedule::new(&NoiseSpec::Vp(
            VpTable::scaled_linear(0.00085, 0.012, 1000).zero_terminal_snr(),
        ))
        .unwrap();
        assert!(noise.is_singular());
        assert_eq!(noise.t_range(), (0.001, 0.999));
        let sigma = noise.sigma(noise.lambda(0.999));
        assert!((sigma - 2254.2).abs() < 1.0, "{sigma}");
        assert!(noise.lambda(1.0).is_infinite());
    }

    #[test]
    fn unusable_parameters_name_their_field() {
        let rising = NoiseSpec::Vp(VpTable::new(Betas::AlphasCumprod(vec![0.9, 0.95, 0.5])));
        assert_eq!(
            NoiseSchedule::new(&rising).unwrap_err().field,
            "alphas_cumprod"
        );
        let reversed = NoiseSpec::Edm {
            sigma_min: 80.0,
            sigma_max: 0.002,
        };
        assert_eq!(
            NoiseSchedule::new(&reversed).unwrap_err().field,
            "sigma_max"
        );
    }
}
