//! The answer: a schedule with everything a user needs to judge it. Its id is the digest of all but its provenance.

use super::calibration::{CalibrationReport, MeasuredError};
use super::digest::Digest;
use super::request::{MethodName, Nfe, ObjectiveName};
use super::solver::EffectiveSolver;
use crate::schedule::Terminal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A schedule, points descending. `timesteps` has one entry per denoiser call; `t`, `sigmas` and `lambdas` have one
/// more, the terminal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDocument {
    /// SHA-256 of everything here but `provenance`.
    #[schema(value_type = String)]
    pub id: Digest,
    pub model: String,
    pub solver: EffectiveSolver,
    pub nfe: Nfe,
    pub terminal: Terminal,
    /// Model time in (0, 1]; null at a clean end.
    pub t: Vec<Option<f64>>,
    /// What the network is called with, one entry a point it is called at; heun calls it twice at all but a last one.
    pub timesteps: Vec<f64>,
    /// Noise levels: sigma/alpha for VP and EDM, the final shifted sigma for flow models.
    pub sigmas: Vec<f64>,
    /// Half log-SNR, ln(alpha / sigma); null at a clean end.
    pub lambdas: Vec<Option<f64>>,
    /// Scale of the image in `x_t = alpha x_0 + sigma noise`.
    pub alphas: Vec<f64>,
    pub method: MethodName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveName>,
    pub fitness: Fitness,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    pub spacing: SpacingReport,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi: Option<PsiReport>,
    /// Every rule that applies to this model, scored by the same proxy. Proxies are no measured errors.
    pub baselines: Vec<Baseline>,
    /// Calibrated schedules: the measured error of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<MeasuredError>,
    /// Calibrated schedules: what was measured, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationReport>,
    pub warnings: Vec<Warning>,
    pub provenance: Provenance,
}

/// Proxy values of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fitness {
    /// Midpoint Error Proxy with the request's exponent.
    pub mep: f64,
    /// What the search minimised at its lower level.
    pub objective: f64,
    /// Spacing penalty.
    pub penalty: f64,
    /// `objective + penalty`.
    pub total: f64,
}

/// How the search ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SearchReport {
    /// Whether the population agreed within the tolerance.
    pub converged: bool,
    /// `tolerance` or `generations`.
    pub stopped_by: String,
}

/// The gaps `t_i - t_{i+1}` against the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpacingReport {
    /// Least gap asked for; null where none was.
    pub required: Option<f64>,
    /// Smallest gap of the schedule; null for a single point.
    pub smallest: Option<f64>,
    /// Whether every gap is as wide as asked.
    pub met: bool,
    /// Whether the lower level held the gaps as constraints, rather than the fitness penalising them.
    pub enforced: bool,
}

/// The upper level's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PsiReport {
    pub rho: f64,
    pub t_min: f64,
    pub t_max: f64,
    /// Genes that ended on an end of their range, as `t_min:high`.
    pub at_bound: Vec<String>,
}

/// A rule beside the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Baseline {
    pub name: String,
    /// Proxy over the points the rule gives for this model and NFE. Values over different ranges do not compare.
    pub mep_native: Option<f64>,
    /// Proxy of the same rule between this schedule's ends with as many points: this one compares.
    pub mep_matched: Option<f64>,
}

/// Something a user should know before relying on a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// Stable name.
    pub code: String,
    pub detail: String,
}

/// How, when and with what the answer was made; not part of its identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    /// Version of fewstep.
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Fitness evaluations of a search, denoiser evaluations (one a sample) of a calibration.
    pub evaluations: u64,
    pub elapsed_ms: f64,
    pub device: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl ScheduleDocument {
    /// Sets the id from the content.
    ///
    /// # Panics
    /// Never: a document is a JSON object.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        let mut content = serde_json::to_value(&self).expect("documents hold finite numbers only");
        let fields = content.as_object_mut().expect("a document is an object");
        fields.remove("id");
        fields.remove("provenance");
        self.id = Digest::of(&content);
        self
    }
}
