//! Comparing schedules of one model, solver and NFE.

use super::calibration::MeasuredError;
use super::document::ScheduleDocument;
use super::request::OptimizeRequest;
use super::solver::EffectiveSolver;
use crate::schedule::Terminal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An optimisation request and the schedules to put beside its answer.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"request": {"model": "sd-v2.1", "solver": "unipc", "nfe": 5}}))]
pub struct CompareRequest {
    pub request: OptimizeRequest,
    /// Lists of noise levels of the user's own, at most 20.
    #[serde(default)]
    pub given: Vec<GivenSigmas>,
}

/// A user's noise levels, descending, in the model's units; a last 0 is the clean end.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenSigmas {
    pub name: String,
    pub sigmas: Vec<f64>,
}

/// The optimised schedule and a row for it, every rule that applies and every given list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Comparison {
    pub schedule: ScheduleDocument,
    pub rows: Vec<ComparisonRow>,
}

/// One schedule under the proxy, and on the model where it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ComparisonRow {
    pub name: String,
    /// Measured rows: the sampler it was measured with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solver: Option<EffectiveSolver>,
    /// Measured rows: how it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// Measured rows: distance of its samples from a fine solve's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<MeasuredError>,
    /// Its noise levels for this model and NFE, without a clean end.
    pub sigmas: Option<Vec<f64>>,
    /// Smallest gap in `t`.
    pub smallest_gap: Option<f64>,
    /// Proxy over its own points. Values over different ranges do not compare.
    pub mep_native: Option<f64>,
    /// Proxy between the optimised schedule's ends with as many points: this one compares.
    pub mep_matched: Option<f64>,
}
