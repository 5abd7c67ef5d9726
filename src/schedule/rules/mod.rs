//! The schedules people use today: closed-form curves, training-grid rules and published tables.
//!
//! Each [`Rule`] gives its points in two ways. [`Rule::native`] is what its own tool would evaluate for n steps on this
//! model, over the rule's own range. [`Rule::matched`] is the same curve between two given times with a given number of
//! points, so that it compares with a schedule on equal terms. Points are half log-SNRs, ascending.

mod beta_quantile;
mod curves;
mod grid;
mod tables;

use super::NoiseSchedule;

/// A named rule with its source.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Fixed by the noise levels of its two ends alone.
    Curve(curves::Curve),
    /// A sequence of times on the model's clock.
    Grid(grid::Grid),
    /// Published noise levels, resampled log-linearly where the number of points differs.
    Table(tables::Table),
}

/// Every rule.
pub static RULES: &[Rule] = &[
    Rule {
        name: "karras",
        source: "arXiv 2206.00364 eq. 5, rho 7; k-diffusion get_sigmas_karras",
        kind: Kind::Curve(curves::Curve::Karras { rho: 7.0 }),
    },
    Rule {
        name: "exponential",
        source: "uniform log-SNR; k-diffusion get_sigmas_exponential",
        kind: Kind::Curve(curves::Curve::Polyexponential { rho: 1.0 }),
    },
    Rule {
        name: "polyexponential_1.5",
        source: "k-diffusion get_sigmas_polyexponential with rho 1.5",
        kind: Kind::Curve(curves::Curve::Polyexponential { rho: 1.5 }),
    },
    Rule {
        name: "kl_optimal",
        source: "Align Your Steps (arXiv 2404.14507), theorem 3.1; ComfyUI kl_optimal_scheduler",
        kind: Kind::Curve(curves::Curve::KlOptimal),
    },
    Rule {
        name: "linear_quadratic",
        source: "Mochi; ComfyUI linear_quadratic_schedule, threshold 0.025",
        kind: Kind::Curve(curves::Curve::LinearQuadratic),
    },
    Rule {
        name: "bong_tangent",
        source: "RES4LYF bong_tangent_scheduler, rescaled to the model's range as stable-diffusion.cpp does",
        kind: Kind::Curve(curves::Curve::BongTangent),
    },
    Rule {
        name: "uniform_t_leading",
        source: "diffusers timestep_spacing leading, steps_offset 1",
        kind: Kind::Grid(grid::Grid::Leading),
    },
    Rule {
        name: "uniform_t_trailing",
        source: "diffusers timestep_spacing trailing",
        kind: Kind::Grid(grid::Grid::Trailing),
    },
    Rule {
        name: "uniform_t_linspace",
        source: "diffusers timestep_spacing linspace",
        kind: Kind::Grid(grid::Grid::Linspace),
    },
    Rule {
        name: "sgm_uniform",
        source: "ComfyUI normal_scheduler with sgm: linspace over N+1 times, last one dropped",
        kind: Kind::Grid(grid::Grid::SgmUniform),
    },
    Rule {
        name: "simple",
        source: "ComfyUI simple_scheduler",
        kind: Kind::Grid(grid::Grid::Simple),
    },
    Rule {
        name: "time_quadratic",
        source: "DPM-Solver time_quadratic: uniform in sqrt(t)",
        kind: Kind::Grid(grid::Grid::Quadratic),
    },
    Rule {
        name: "beta",
        source: "arXiv 2407.12173; ComfyUI beta_scheduler, alpha = beta = 0.6 over time",
        kind: Kind::Grid(grid::Grid::Beta {
            alpha: 0.6,
            beta: 0.6,
        }),
    },
    Rule {
        name: "beta57",
        source: "RES4LYF beta57: beta_scheduler with alpha 0.5, beta 0.7",
        kind: Kind::Grid(grid::Grid::Beta {
            alpha: 0.5,
            beta: 0.7,
        }),
    },
    Rule {
        name: "ays_sd15",
        source: "Align Your Steps (arXiv 2404.14507), Stable Diffusion 1.5; ComfyUI AlignYourSteps",
        kind: Kind::Table(tables::AYS_SD15),
    },
    Rule {
        name: "ays_sdxl",
        source: "Align Your Steps (arXiv 2404.14507), SDXL; ComfyUI AlignYourSteps",
        kind: Kind::Table(tables::AYS_SDXL),
    },
    Rule {
        name: "ays_svd",
        source: "Align Your Steps (arXiv 2404.14507), Stable Video Diffusion; diffusers AysSchedules",
        kind: Kind::Table(tables::AYS_SVD),
    },
    Rule {
        name: "gits",
        source: "GITS (arXiv 2405.11326), coefficient 1.20; ComfyUI GITSScheduler",
        kind: Kind::Table(tables::GITS),
    },
    Rule {
        name: "oss_flux",
        source: "Optimal Stepsize (arXiv 2503.21774), FLUX; ComfyUI OptimalStepsScheduler",
        kind: Kind::Table(tables::OSS_FLUX),
    },
    Rule {
        name: "oss_wan",
        source: "Optimal Stepsize (arXiv 2503.21774), Wan; ComfyUI OptimalStepsScheduler",
        kind: Kind::Table(tables::OSS_WAN),
    },
];

/// The rule of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

impl Rule {
    /// Half log-SNRs of the `n` evaluations this rule makes on a model, ascending; a jump to the clean estimate follows.
    ///
    /// Nothing where the rule does not apply to the model, or gives fewer than `n` distinct points.
    #[must_use]
    pub fn native(&self, noise: &NoiseSchedule, n: usize) -> Option<Vec<f64>> {
        if n == 0 {
            return None;
        }
        let lambdas = match &self.kind {
            Kind::Curve(curve) => {
                let (low, high) = noise.t_range();
                curve.native(noise, n, noise.lambda(high), noise.lambda(low))?
            }
            Kind::Grid(grid) => grid.native(noise, n)?,
            Kind::Table(table) => table.native(noise, n)?,
        };
        strictly_ascending(&lambdas).then_some(lambdas)
    }

    /// The rule's curve over `points` points from `t_max` to `t_min`, as ascending half log-SNRs with exactly those ends.
    ///
    /// Nothing where the rule does not apply to the model, or for fewer than two points.
    #[must_use]
    pub fn matched(
        &self,
        noise: &NoiseSchedule,
        points: usize,
        t_max: f64,
        t_min: f64,
    ) -> Option<Vec<f64>> {
        if points < 2 {
            return None;
        }
        let ends = (noise.lambda(t_max), noise.lambda(t_min));
        let mut lambdas = match &self.kind {
            Kind::Curve(curve) => curve.matched(noise, points, ends.0, ends.1),
            Kind::Grid(grid) => grid.matched(noise, points, t_max, t_min),
            Kind::Table(table) => table.matched(noise, points, ends.0, ends.1)?,
        };
        (lambdas[0], lambdas[points - 1]) = ends;
        strictly_ascending(&lambdas).then_some(lambdas)
    }
}

fn strictly_ascending(lambdas: &[f64]) -> bool {
    lambdas.iter().all(|lambda| lambda.is_finite())
        && lambdas.windows(2).all(|pair| pair[0] < pair[1])
}

/// `points` numbers from 0 to 1; a single one is 0.
fn ramp(points: usize) -> impl Iterator<Item = f64> {
    let last = points.saturating_sub(1).max(1) as f64;
    (0..points).map(move |i| i as f64 / last)
}

/// Stretches ascending numbers linearly onto two ends.
fn stretched(values: &[f64], low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (values[0], values[values.len() - 1]);
    values
        .iter()
        .map(|value| low + (high - low) * ((value - first) / (last - first)))
        .collect()
}

#[cfg(test)]
mod tests;
