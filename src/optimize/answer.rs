//! A schedule with everything that is known about it, and how that is written down.

use super::DEFAULT_P;
use crate::api::{
    Baseline, CalibrationReport, Digest, Effective, EffectiveSolver, Fitness, MeasuredError,
    ObjectiveName, Provenance, PsiReport, ScheduleDocument, SearchReport, SpacingReport, Warning,
};
use crate::objective::Objective;
use crate::objective::mep::Mep;
use crate::schedule::rules::{RULES, Rule};
use crate::schedule::{NoiseSchedule, Schedule, Terminal};
use std::time::Instant;

/// A schedule with what is known about it, before it is written down.
pub(super) struct Answer {
    pub noise: NoiseSchedule,
    pub schedule: Schedule,
    pub solver: EffectiveSolver,
    pub p: f64,
    pub objective: Option<(ObjectiveName, f64)>,
    pub penalty: f64,
    pub spacing: SpacingReport,
    pub search: Option<SearchReport>,
    pub psi: Option<PsiReport>,
    pub seed: Option<u64>,
    pub evaluations: u64,
    pub error: Option<MeasuredError>,
    pub calibration: Option<CalibrationReport>,
    pub device: String,
    pub warnings: Vec<Warning>,
}

impl Answer {
    /// A schedule nothing was searched for.
    pub fn plain(effective: &Effective, noise: NoiseSchedule, schedule: Schedule) -> Self {
        Self {
            p: DEFAULT_P,
            solver: effective.solver,
            objective: None,
            penalty: 0.0,
            spacing: SpacingReport {
                required: None,
                smallest: schedule.gaps().reduce(f64::min),
                met: true,
                enforced: false,
            },
            search: None,
            psi: None,
            seed: None,
            evaluations: 0,
            error: None,
            calibration: None,
            device: "cpu".to_owned(),
            warnings: Vec::new(),
            noise,
            schedule,
        }
    }

    pub fn into_document(self, effective: &Effective, started: Instant) -> ScheduleDocument {
        let lambdas = self.schedule.lambdas();
        let mep = proxy(&self.noise, self.p, lambdas);
        let clean = self.schedule.terminal() == Terminal::Denoise;
        let with_end = |values: Vec<f64>, end: Option<f64>| -> Vec<Option<f64>> {
            let clean_end = clean.then_some(end);
            values.into_iter().map(Some).chain(clean_end).collect()
        };
        let mut sigmas: Vec<f64> = lambdas.iter().map(|&l| self.noise.sigma(l)).collect();
        let mut alphas: Vec<f64> = lambdas.iter().map(|&l| self.noise.alpha(l)).collect();
        if clean {
            sigmas.push(0.0);
            alphas.push(1.0);
        }
        let value = self.objective.map_or(mep, |(_, value)| value);
        let document = ScheduleDocument {
            id: Digest::of(&()),
            model: effective.model.clone(),
            solver: self.solver,
            nfe: effective.nfe,
            terminal: self.schedule.terminal(),
            t: with_end(self.schedule.t().to_vec(), None),
            timesteps: self.schedule.timesteps(&self.noise),
            sigmas,
            lambdas: with_end(lambdas.to_vec(), None),
            alphas,
            method: effective.method(),
            objective: self.objective.map(|(name, _)| name),
            fitness: Fitness {
                mep,
                objective: value,
                penalty: self.penalty,
                total: value + self.penalty,
            },
            search: self.search,
            spacing: self.spacing,
            psi: self.psi,
            baselines: baselines(&self.noise, &self.schedule, self.p),
            error: self.error,
            calibration: self.calibration,
            warnings: self.warnings,
            provenance: Provenance {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                seed: self.seed,
                evaluations: self.evaluations,
                elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
                device: self.device,
                created_at: jiff::Timestamp::now().to_string(),
            },
        };
        document.sealed()
    }
}

/// Every rule that applies, scored by the midpoint proxy over its own points and between the schedule's ends.
fn baselines(noise: &NoiseSchedule, schedule: &Schedule, p: f64) -> Vec<Baseline> {
    let points = schedule.t().len();
    let ends = (schedule.t()[0], schedule.t()[points - 1]);
    rules_beside(noise, schedule.timesteps(noise).len(), points, ends)
        .map(|(rule, native, matched)| Baseline {
            name: rule.name.to_owned(),
            mep_native: native.map(|lambdas| proxy(noise, p, &lambdas)),
            mep_matched: matched.map(|lambdas| proxy(noise, p, &lambdas)),
        })
        .collect()
}

/// Half log-SNRs of a rule by its own tool and between given ends, where it has them.
type RulePoints = (&'static Rule, Option<Vec<f64>>, Option<Vec<f64>>);

/// Every rule that applies beside a schedule of that many evaluations and points from `t_max` to `t_min`.
pub(super) fn rules_beside(
    noise: &NoiseSchedule,
    evaluations: usize,
    points: usize,
    (t_max, t_min): (f64, f64),
) -> impl Iterator<Item = RulePoints> {
    let t_max = t_max.min(noise.t_range().1);
    RULES.iter().filter_map(move |rule| {
        let native = rule.native(noise, evaluations);
        let matched = rule.matched(noise, points, t_max, t_min);
        (native.is_some() || matched.is_some()).then_some((rule, native, matched))
    })
}

/// The midpoint proxy of a list of points; a single point has no interval and costs nothing. Pure noise, where log-SNR is
/// infinite, counts from the end of the model's times.
pub(super) fn proxy(noise: &NoiseSchedule, p: f64, lambdas: &[f64]) -> f64 {
    if lambdas.len() < 2 {
        return 0.0;
    }
    let least = noise.lambda(noise.t_range().1);
    if lambdas[0] >= least {
        return Mep::new(p).value(lambdas);
    }
    let mut finite = lambdas.to_vec();
    finite[0] = least;
    Mep::new(p).value(&finite)
}
