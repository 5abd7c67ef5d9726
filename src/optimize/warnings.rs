//! What a user should know before relying on a schedule: corners, unmet spacing, clipped ranges, proxies.

use crate::api::{Effective, MethodName, PsiReport, SearchSettings, Warning};
use crate::calibrate;
use crate::hso::{Outcome, Stop};
use crate::schedule::families::{self, Published};
use crate::schedule::{NoiseSchedule, Schedule, Terminal};

/// `hso-constrained` warns when its gaps come this close to uniform.
const NEARLY_UNIFORM: f64 = 0.1;
/// Gaps below this share of the mean gap have merged.
const MERGED: f64 = 1e-3;

fn warning(code: &str, detail: impl Into<String>) -> Warning {
    Warning {
        code: code.to_owned(),
        detail: detail.into(),
    }
}

/// A searched schedule with what it was searched by.
pub(super) struct Searched<'a> {
    pub effective: &'a Effective,
    pub settings: &'a SearchSettings,
    pub outcome: &'a Outcome,
    pub schedule: &'a Schedule,
    pub psi: &'a PsiReport,
    pub noise: &'a NoiseSchedule,
}

/// Warnings of a searched schedule.
pub(super) fn of_search(searched: &Searched<'_>) -> Vec<Warning> {
    if searched.schedule.t().len() < 2 {
        return vec![warning(
            "single_point",
            "one evaluation at one point leaves nothing to optimise: it is the noisiest point allowed",
        )];
    }
    [
        searched.distilled(),
        searched.corner(),
        searched.spacing_not_met(),
        searched.merged_points(),
        searched.nearly_uniform(),
        searched.not_converged(),
        searched.singular_end(),
        searched.noise_left(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Searched<'_> {
    fn distilled(&self) -> Option<Warning> {
        let family = families::find(&self.effective.model)?;
        family.published.as_ref()?;
        Some(warning(
            "distilled_model",
            "this model is distilled for a schedule of its own; a searched one takes it off the noise levels it was \
             trained on",
        ))
    }

    fn corner(&self) -> Option<Warning> {
        let ends: Vec<&str> = self
            .psi
            .at_bound
            .iter()
            .filter(|end| end.starts_with("t_"))
            .map(String::as_str)
            .collect();
        (!ends.is_empty()).then(|| {
            warning(
                "corner_solution",
                format!(
                    "the search ended on its box ({}): the objective does not charge for the part of the trajectory \
                     that is cut off, so the box decides these ends",
                    ends.join(", ")
                ),
            )
        })
    }

    fn spacing_not_met(&self) -> Option<Warning> {
        let (smallest, required) = (self.smallest_gap(), self.outcome.required);
        if smallest >= required * (1.0 - super::SPACING_ROUNDING) {
            return None;
        }
        let consequence = match self.outcome.enforced {
            Some(least) => format!(
                "{least:.5} is the largest this many points allow between the ends, and is what was used"
            ),
            None if self.settings.gamma == 0.0 => "gamma is 0, so nothing held it".to_owned(),
            None => "the penalty outweighs the objective and widens the range instead; lower d_min or gamma, or use \
                     hso-constrained"
                .to_owned(),
        };
        Some(warning(
            "spacing_not_met",
            format!(
                "the smallest gap in t is {smallest:.5}, the one asked for {required:.5}; {consequence}"
            ),
        ))
    }

    fn merged_points(&self) -> Option<Warning> {
        if self.effective.method() == MethodName::Hso && self.outcome.enforced.is_some() {
            return Some(warning(
                "objective_without_minimum",
                "between these ends the objective has no minimum of its own that keeps points apart: its minimum under the required \
                 spacing is given",
            ));
        }
        (self.smallest_gap() < MERGED * self.mean_gap()).then(|| {
            warning(
                "collapsed",
                "neighbouring points have merged: the objective has no minimum inside the range. Set gamma above 0 or \
                 use hso-constrained",
            )
        })
    }

    fn nearly_uniform(&self) -> Option<Warning> {
        let mean = self.mean_gap();
        let uniform = |gap: f64| (gap / mean - 1.0).abs() <= NEARLY_UNIFORM;
        let is_constrained = self.effective.method() == MethodName::HsoConstrained;
        (is_constrained && self.schedule.gaps().all(uniform)).then(|| {
            warning(
                "nearly_uniform",
                "the spacing leaves so little room that the gaps are within 10 % of uniform t: lower d_min",
            )
        })
    }

    fn not_converged(&self) -> Option<Warning> {
        (self.outcome.stopped_by == Stop::Generations).then(|| {
            warning(
                "not_converged",
                format!(
                    "stopped after {} generations before the population agreed: raise generations or tolerance",
                    self.settings.generations
                ),
            )
        })
    }

    fn singular_end(&self) -> Option<Warning> {
        let (_, high) = self.noise.t_range();
        self.noise.is_singular().then(|| {
            warning(
                "singular_end",
                format!(
                    "this model is pure noise at t = 1, where log-SNR is infinite: the search starts at most at t = {high}"
                ),
            )
        })
    }

    fn noise_left(&self) -> Option<Warning> {
        let last = self.schedule.lambdas()[self.schedule.lambdas().len() - 1];
        (self.effective.terminal == Terminal::TMin).then(|| noise_left(self.noise.sigma(last)))
    }

    fn smallest_gap(&self) -> f64 {
        self.schedule.gaps().fold(f64::INFINITY, f64::min)
    }

    fn mean_gap(&self) -> f64 {
        let t = self.schedule.t();
        (t[0] - t[t.len() - 1]) / (t.len() - 1) as f64
    }
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

/// What a measured schedule does not show by itself.
pub(super) fn of_calibration(outcome: &calibrate::Outcome, noise: &NoiseSchedule) -> Vec<Warning> {
    let winner = &outcome.judged[outcome.winner];
    let mut warnings = Vec::new();
    if !outcome.teacher.converged {
        warnings.push(warning(
            "teacher_not_converged",
            format!(
                "the fine solve of {} evaluations still moved by {:.5} when its steps were doubled: errors below that mean little",
                outcome.teacher.nfe, outcome.teacher.change
            ),
        ));
    }
    if winner.refined_from.is_none() {
        warnings.push(warning(
            "not_refined",
            format!(
                "no refined schedule was better than `{}` on noise the search never saw: that is the answer",
                winner.candidate.name
            ),
        ));
    }
    let schedule = &winner.candidate.schedule;
    if schedule.terminal() == Terminal::TMin {
        let last = schedule.lambdas()[schedule.lambdas().len() - 1];
        warnings.push(noise_left(noise.sigma(last)));
    }
    warnings
}

fn noise_left(sigma: f64) -> Warning {
    warning(
        "noise_left",
        format!(
            "terminal t_min leaves noise of sigma {sigma:.4} in the sample; pixel-space models do better with \
             \"terminal\": \"denoise\""
        ),
    )
}
