//! A request with nothing left open: defaults filled in, limits checked, the model's noise written out.
//!
//! [`resolve`] is the only way to make an [`Effective`]; everything behind it trusts its values. Workers read it back from
//! the queue and check it against its digest. Its canonical digest is the cache key, so every setting that changes an answer is in it and nothing else is.

use super::ALGORITHM_REVISION;
use super::calibration::{Calibration, DenoiserFacts};
use super::digest::Digest;
use super::invalid::{Invalid, InvalidField};
use super::limits::{
    D_MIN, GAMMA, GENERATIONS, KINKED_INTERVAL, MAX_SEED, MAX_WORK, P, POPULATION, SMOOTH_INTERVAL,
    TOLERANCE,
};
use super::model::Model;
use super::noise::NoiseFields;
use super::ranges::{resolve_bounds, within};
use super::request::{MethodName, Nfe, ObjectiveName, OptimizeRequest};
use super::solver::{EffectiveSolver, SolverName};
use crate::hso::Bounds;
use crate::objective::spacing::published_d_min;
use crate::schedule::Terminal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Seed of the published settings.
const DEFAULT_SEED: u64 = 66;
/// Fitness evaluations the polish may add to a search.
const POLISH_ALLOWANCE: u64 = 450;

/// Everything an answer depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effective {
    pub algorithm_revision: u32,
    /// Model id; the answer carries it.
    pub model: String,
    /// The noise schedule in full, resolution and overrides applied.
    pub noise: NoiseFields,
    pub solver: EffectiveSolver,
    pub nfe: Nfe,
    pub terminal: Terminal,
    pub snap: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Calibration>,
    #[serde(flatten)]
    pub plan: Plan,
}

/// How the schedule is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Plan {
    Hso(SearchSettings),
    HsoConstrained(SearchSettings),
    /// The schedule a distilled model carries, stretched to another NFE where `resample` allows.
    Published {
        resample: bool,
    },
}

/// Settings of a bi-level search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SearchSettings {
    pub objective: ObjectiveName,
    pub p: f64,
    pub gamma: f64,
    /// Absent for `hso-constrained` without a spacing of the user's own: half the uniform gap at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_min: Option<f64>,
    pub rho: [f64; 2],
    pub t_min: [f64; 2],
    pub t_max: [f64; 2],
    pub population: u32,
    pub generations: u32,
    pub tolerance: f64,
    pub seed: u64,
}

impl SearchSettings {
    /// The box of the upper level.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            rho: self.rho.into(),
            t_min: self.t_min.into(),
            t_max: self.t_max.into(),
        }
    }
}

impl Effective {
    /// The cache key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// Points of its schedule.
    #[must_use]
    pub fn points(&self) -> usize {
        self.solver
            .points(self.terminal, self.nfe)
            .unwrap_or_else(|_| self.terminal.points(usize::from(self.nfe.get())))
    }

    /// Estimated work at most, in units of about a microsecond on one core.
    #[must_use]
    pub fn cost(&self) -> u64 {
        match &self.plan {
            Plan::Published { .. } => 0,
            Plan::Hso(search) | Plan::HsoConstrained(search) => {
                let population = 3 * u64::from(search.population);
                let evaluations =
                    population * (u64::from(search.generations) + 1) + POLISH_ALLOWANCE;
                let interval = match search.objective {
                    ObjectiveName::Mep => SMOOTH_INTERVAL,
                    ObjectiveName::UnipcBound | ObjectiveName::UnipcMidpoint => KINKED_INTERVAL,
                };
                evaluations * u64::from(self.nfe.get()) * interval
            }
        }
    }

    /// The name of the method.
    #[must_use]
    pub fn method(&self) -> MethodName {
        if self.calibrate.is_some() {
            return MethodName::Calibrated;
        }
        match self.plan {
            Plan::Hso(_) => MethodName::Hso,
            Plan::HsoConstrained(_) => MethodName::HsoConstrained,
            Plan::Published { .. } => MethodName::Published,
        }
    }
}

/// What is known about the model a request names.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Noise of a model that is not built in.
    pub noise: Option<NoiseFields>,
    /// Its denoiser, where there is one at hand.
    pub denoiser: Option<DenoiserFacts>,
}

/// Reads a request about a model of which that much is known.
pub fn resolve(request: &OptimizeRequest, known: &Known) -> Result<Effective, Invalid> {
    let model = Model::find(&request.model, known.noise.as_ref())?;
    let solver = EffectiveSolver::resolve(&request.solver)?;
    let plan = resolve_plan(request, &model)?;
    let snap = request.snap.unwrap_or(false);
    if snap && model.noise.grid_steps().is_none() {
        return Err(InvalidField::new(
            "/snap",
            "this model has no grid of training timesteps to snap to: remove it",
        )
        .into());
    }
    let terminal = match &plan {
        Plan::Published { .. } => Terminal::Denoise,
        _ => request.terminal.unwrap_or(solver.name.default_terminal()),
    };
    let calibrate = resolve_calibration(request, solver, &plan, known)?;
    if calibrate.is_none() {
        solver.points(terminal, request.nfe)?;
    }
    if matches!(plan, Plan::Published { .. }) && solver.name == SolverName::Heun {
        let detail = "spends two evaluations a step, and this model's schedule is for one: use another solver";
        return Err(InvalidField::new("/solver", detail).into());
    }
    let effective = Effective {
        algorithm_revision: ALGORITHM_REVISION,
        model: model.id,
        noise: NoiseFields::from(&model.spec),
        solver,
        nfe: request.nfe,
        terminal,
        snap,
        calibrate,
        plan,
    };
    if effective.cost() > MAX_WORK {
        return Err(InvalidField::new(
            "/generations",
            format!(
                "population x generations x nfe needs {} units of work; at most {MAX_WORK} are allowed: lower one of them",
                effective.cost()
            ),
        )
        .into());
    }
    Ok(effective)
}

fn resolve_calibration(
    request: &OptimizeRequest,
    solver: EffectiveSolver,
    plan: &Plan,
    known: &Known,
) -> Result<Option<Calibration>, Invalid> {
    let Some(fields) = &request.calibrate else {
        return if solver.name == SolverName::Auto {
            let detail = "auto chooses by measured error: ask for it with `calibrate`";
            Err(InvalidField::new("/solver", detail).into())
        } else {
            Ok(None)
        };
    };
    if matches!(plan, Plan::Published { .. }) {
        let detail = "this model answers with its published schedule, which is not refined: remove it, or ask for \
                      \"method\": \"hso\"";
        return Err(InvalidField::new("/calibrate", detail).into());
    }
    let Some(denoiser) = &known.denoiser else {
        let detail = "there is no denoiser for this model: use a model that has one (GET /v1/models, `fewstep models`), or put its \
                      diffusers folder under the models root and name that";
        return Err(InvalidField::new("/calibrate", detail).into());
    };
    let mut wrong = Vec::new();
    let calibration = Calibration::resolve(fields, request, solver, denoiser, &mut wrong);
    if wrong.is_empty() {
        Ok(Some(calibration))
    } else {
        Err(Invalid(wrong))
    }
}

fn resolve_plan(request: &OptimizeRequest, model: &Model) -> Result<Plan, Invalid> {
    let default = if model.published.is_some() {
        MethodName::Published
    } else {
        MethodName::Hso
    };
    match request.method.unwrap_or(default) {
        MethodName::Published => resolve_published(request, model),
        MethodName::Hso => resolve_search(request, model, false).map(Plan::Hso),
        MethodName::HsoConstrained => {
            resolve_search(request, model, true).map(Plan::HsoConstrained)
        }
        MethodName::Calibrated => {
            let detail = "is what answers say: ask for it with `calibrate`";
            Err(InvalidField::new("/method", detail).into())
        }
    }
}

/// A published schedule has nothing to tune, so search settings beside it are a mistake.
fn resolve_published(request: &OptimizeRequest, model: &Model) -> Result<Plan, Invalid> {
    let Some(published) = model.published else {
        return Err(InvalidField::new(
            "/method",
            "this model was not distilled for a schedule of its own; use hso or hso-constrained",
        )
        .into());
    };
    let given = [
        ("objective", request.objective.is_some()),
        ("p", request.p.is_some()),
        ("gamma", request.gamma.is_some()),
        ("d_min", request.d_min.is_some()),
        ("bounds", request.bounds.is_some()),
        ("population", request.population.is_some()),
        ("generations", request.generations.is_some()),
        ("tolerance", request.tolerance.is_some()),
        ("seed", request.seed.is_some()),
        ("terminal", request.terminal == Some(Terminal::TMin)),
        ("start_sigma", request.start_sigma.is_some()),
    ];
    let foreign: Vec<InvalidField> = given
        .iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(field, _)| {
            InvalidField::new(
                format!("/{field}"),
                "this model is distilled and answers with its published schedule, where this setting means nothing: \
                 remove it, or ask for \"method\": \"hso\"",
            )
        })
        .collect();
    if !foreign.is_empty() {
        return Err(Invalid(foreign));
    }
    let resample = request.resample.unwrap_or(false);
    let nfe = usize::from(request.nfe.get());
    if !resample && !published.nfes().any(|n| n == nfe) {
        let allowed: Vec<String> = published.nfes().map(|n| n.to_string()).collect();
        return Err(InvalidField::new(
            "/nfe",
            format!(
                "this model is distilled for {} evaluations; use one of those, or \"resample\": true to stretch its \
                 schedule",
                allowed.join(", ")
            ),
        )
        .into());
    }
    Ok(Plan::Published { resample })
}

fn resolve_search(
    request: &OptimizeRequest,
    model: &Model,
    constrained: bool,
) -> Result<SearchSettings, Invalid> {
    let mut wrong = Vec::new();
    if request.resample.is_some() {
        wrong.push(InvalidField::new(
            "/resample",
            "belongs to the published schedules of distilled models: remove it",
        ));
    }
    let nfe = usize::from(request.nfe.get());
    let d_min = within(request.d_min, "/d_min", D_MIN, &mut wrong)
        .or_else(|| (!constrained).then(|| published_d_min(nfe)));
    let bounds = resolve_bounds(request, model, &mut wrong);
    let settings = SearchSettings {
        objective: request.objective.unwrap_or(ObjectiveName::Mep),
        p: within(request.p, "/p", P, &mut wrong).unwrap_or(2.0),
        gamma: within(request.gamma, "/gamma", GAMMA, &mut wrong).unwrap_or(1e9),
        d_min,
        rho: bounds.rho.into(),
        t_min: bounds.t_min.into(),
        t_max: bounds.t_max.into(),
        population: within(request.population, "/population", POPULATION, &mut wrong).unwrap_or(20),
        generations: within(request.generations, "/generations", GENERATIONS, &mut wrong)
            .unwrap_or(60),
        tolerance: within(request.tolerance, "/tolerance", TOLERANCE, &mut wrong).unwrap_or(0.01),
        seed: within(request.seed, "/seed", (0, MAX_SEED), &mut wrong).unwrap_or(DEFAULT_SEED),
    };
    if wrong.is_empty() {
        Ok(settings)
    } else {
        Err(Invalid(wrong))
    }
}
