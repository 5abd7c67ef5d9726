//! What a user should know before relying on a schedule: corners, unmet spacing, clipped ranges, proxies.

use crate::api::{Effective, MethodName, PsiReport, SearchSettings, Warning};
use crate::hso::{Bounds, Outcome, Stop};
use crate::schedule::families::Published;
use crate::schedule::{NoiseSchedule, Schedule, Terminal};

/// `hso-constrained` warns when its gaps come this close to uniform.
const NEARLY_UNIFORM: f64 = 0.1;

fn warning(code: &str, detail: impl Into<String>) -> Warning {
    Warning {
        code: code.to_owned(),
        detail: detail.into(),
    }
}

/// Warnings of a searched schedule.
pub(super) fn of_search(
    effective: &Effective,
    settings: &SearchSettings,
    outcome: &Outcome,
    schedule: &Schedule,
    psi: &PsiReport,
    noise: &NoiseSchedule,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if schedule.t().len() < 2 {
        warnings.push(warning(
            "single_point",
            "one evaluation at one point leaves nothing to optimise: it is the noisiest point allowed",
        ));
        return warnings;
    }
    let ends: Vec<&str> = psi
        .at_bound
        .iter()
        .filter(|end| end.starts_with("t_"))
        .map(String::as_str)
        .collect();
    if !ends.is_empty() {
        warnings.push(warning(
            "corner_solution",
            format!(
                "the search ended on its box ({}): the objective does not charge for the part of the trajectory that is \
                 cut off, so the box decides these ends",
                ends.join(", ")
            ),
        ));
    }
    let smallest = schedule.gaps().fold(f64::INFINITY, f64::min);
    let method = effective.method();
    let mean = mean_gap(schedule);
    if smallest < outcome.required * (1.0 - super::SPACING_ROUNDING) {
        warnings.push(warning(
            "spacing_not_met",
            format!(
                "the smallest gap in t is {smallest:.5}, the one asked for {:.5}; {}",
                outcome.required,
                match outcome.enforced {
                    Some(least) => format!(
                        "{least:.5} is the largest this many points allow between the ends, and is what was used"
                    ),
                    None => "the penalty outweighs the objective and widens the range instead; lower d_min or gamma, or use \
                             hso-constrained"
                        .to_owned(),
                }
            ),
        ));
    }
    if method == MethodName::Hso && outcome.enforced.is_some() {
        warnings.push(warning(
            "objective_without_minimum",
            "the objective merges points between these ends, so its minimum under the required spacing is given",
        ));
    } else if smallest < 1e-3 * mean {
        warnings.push(warning(
            "collapsed",
            "neighbouring points have merged: the objective has no minimum inside the range. Set gamma above 0 or use \
             hso-constrained",
        ));
    }
    if method == MethodName::HsoConstrained
        && schedule
            .gaps()
            .all(|gap| (gap / mean - 1.0).abs() <= NEARLY_UNIFORM)
    {
        warnings.push(warning(
            "nearly_uniform",
            "the spacing leaves so little room that the gaps are within 10 % of uniform t: lower d_min",
        ));
    }
    if outcome.stopped_by == Stop::Generations {
        warnings.push(warning(
            "not_converged",
            format!(
                "stopped after {} generations before the population agreed: raise generations or tolerance",
                settings.generations
            ),
        ));
    }
    if settings.bounds() != Bounds::PUBLISHED && noise.is_singular() {
        let (_, high) = noise.t_range();
        warnings.push(warning(
            "singular_end",
            format!("this model is pure noise at t = 1, where log-SNR is infinite: schedules start at most at t = {high}"),
        ));
    }
    if effective.terminal == Terminal::TMin {
        let last = schedule.lambdas()[schedule.lambdas().len() - 1];
        warnings.push(warning(
            "noise_left",
            format!(
                "terminal t_min leaves noise of sigma {:.4} in the sample; pixel-space models do better with \"terminal\": \
                 \"denoise\"",
                noise.sigma(last)
            ),
        ));
    }
    warnings
}

fn mean_gap(schedule: &Schedule) -> f64 {
    let t = schedule.t();
    (t[0] - t[t.len() - 1]) / (t.len() - 1) as f64
}

/// Why a distilled model is not optimised, and whether its schedule was stretched.
pub(super) fn of_published(published: &Published, exact: bool) -> Warning {
    if exact {
        warning("published", published.reason)
    } else {
        warning(
            "resampled",
            format!(
                "{} This NFE is none of its own: the nearest published schedule was resampled in log-SNR and is untested",
                published.reason
            ),
        )
    }
}
