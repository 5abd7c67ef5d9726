//! The optimisation request as it comes over the wire: three fields are enough, an unknown one is an error.

use super::calibration::CalibrateFields;
use super::limits::MAX_NFE;
use super::noise::NoiseFields;
use super::solver::{SolverName, SolverObject, SolverRef};
use crate::schedule::Terminal;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Which timesteps, for this model, this solver and N evaluations?
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"model": "sd-v2.1", "solver": "unipc", "nfe": 5}))]
pub struct OptimizeRequest {
    /// A built-in or registered model's id, or an inline description.
    pub model: ModelRef,
    /// The sampler the schedule is for.
    pub solver: SolverRef,
    /// Denoiser evaluations per sample; classifier-free guidance counts as one.
    pub nfe: Nfe,
    /// Default `hso`; `published` for distilled models.
    pub method: Option<MethodName>,
    /// What the lower level minimises. Default `mep`.
    pub objective: Option<ObjectiveName>,
    /// Exponent of the error model `sigma^p / alpha`. Default 2.
    pub p: Option<f64>,
    /// Weight of the spacing penalty; 0 switches it off. Default 1e9.
    pub gamma: Option<f64>,
    /// Least gap in `t`. Default: linear from 0.15 at NFE 4 to 0.01 at NFE 20.
    pub d_min: Option<f64>,
    /// Box of the upper level.
    pub bounds: Option<BoundsFields>,
    /// Population members for every free gene (`SciPy`'s `popsize`). Default 20.
    pub population: Option<u32>,
    /// Generations at most. Default 60.
    pub generations: Option<u32>,
    /// Spread of the population's fitness, against its mean, that ends the search. Default 0.01.
    pub tolerance: Option<f64>,
    /// Seed of the search; the same request and seed give the same bytes. Default 66.
    pub seed: Option<u64>,
    /// How the sample leaves the last point. Default: `t_min` for unipc and `dpmpp_2m`, else `denoise`; a calibration tries both.
    pub terminal: Option<Terminal>,
    /// Fixes the first noise level, in the units of `sigmas` (image-to-image, refiners).
    pub start_sigma: Option<f64>,
    /// Whole training timesteps, strictly decreasing, for consumers that truncate. Default false.
    pub snap: Option<bool>,
    /// Distilled models: stretch the published schedule to another NFE. Default false.
    pub resample: Option<bool>,
    /// Refine the schedule against the model itself, where the service has its denoiser; `{}` for the defaults.
    pub calibrate: Option<CalibrateFields>,
    /// Place in the queue, -9 to 9: every point is worth a minute of waiting. Default 0. No part of the digest.
    pub priority: Option<i64>,
    /// Called when the job has ended (Standard Webhooks), where the service is set up for it. No part of the digest.
    pub webhook: Option<String>,
}

/// A whole number of denoiser evaluations, 1 to 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Nfe(u16);

impl Nfe {
    /// Fails outside 1 to 256.
    pub fn new(value: u64) -> Result<Self, String> {
        if (1..=MAX_NFE).contains(&value) {
            Ok(Self(value as u16))
        } else {
            Err(Self::expectation())
        }
    }

    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    fn expectation() -> String {
        format!("nfe must be a whole number from 1 to {MAX_NFE}")
    }
}

impl std::str::FromStr for Nfe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| Self::expectation())
            .and_then(Self::new)
    }
}

impl<'de> Deserialize<'de> for Nfe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeNumber;
        impl Visitor<'_> for WholeNumber {
            type Value = Nfe;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 1 to {MAX_NFE}")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Nfe, E> {
                Nfe::new(value).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Nfe, E> {
                Err(E::custom(Nfe::expectation()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Nfe, E> {
                let whole = value as u64;
                if whole as f64 == value {
                    return self.visit_u64(whole);
                }
                Err(E::custom(Nfe::expectation()))
            }
        }
        deserializer.deserialize_any(WholeNumber)
    }
}

/// How a schedule is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// The HSO paper's method: spacing counts in the fitness only.
    Hso,
    /// The same search with the spacing as constraints of its lower level.
    HsoConstrained,
    /// The schedule a distilled model was trained for.
    Published,
    /// In answers: chosen by its measured error. Ask for it with `calibrate`.
    Calibrated,
}

impl MethodName {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hso => "hso",
            Self::HsoConstrained => "hso-constrained",
            Self::Published => "published",
            Self::Calibrated => "calibrated",
        }
    }
}

/// What the lower level minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveName {
    /// Midpoint Error Proxy (arXiv 2511.11688).
    Mep,
    /// DM-NonUniform's bound (arXiv 2402.17376).
    UnipcBound,
    /// Its midpoint variant, which collapses without the penalty.
    UnipcMidpoint,
}

/// A model by id, or an inline description.
#[derive(Clone, Debug)]
pub enum ModelRef {
    Id(String),
    Object(Box<ModelObject>),
}

/// A model with the resolution its noise depends on, or one described inline: exactly one of `id`, `noise` and
/// `scheduler_config`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelObject {
    /// A built-in or registered model.
    pub id: Option<String>,
    /// A noise schedule in parameters.
    pub noise: Option<NoiseFields>,
    /// A diffusers `scheduler_config.json`, as it is.
    #[schema(value_type = Option<Object>)]
    pub scheduler_config: Option<crate::schedule::SchedulerConfig>,
    /// Image width in pixels, for models whose shift depends on it.
    pub width: Option<u32>,
    /// Image height in pixels, likewise.
    pub height: Option<u32>,
    /// Flow models: use this shift instead.
    pub shift: Option<f64>,
}

/// Reads either a string or an object, keeping the path of errors inside the object.
macro_rules! string_or_object {
    ($reference:ident, $expecting:literal, $from_str:expr, $object:ty, $from_object:expr) => {
        impl<'de> Deserialize<'de> for $reference {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StringOrObject;
                impl<'de> Visitor<'de> for StringOrObject {
                    type Value = $reference;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$reference, E> {
                        $from_str(text).map_err(E::custom)
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$reference, A::Error> {
                        <$object>::deserialize(MapAccessDeserializer::new(map)).map($from_object)
                    }
                }
                deserializer.deserialize_any(StringOrObject)
            }
        }
    };
}

string_or_object!(
    SolverRef,
    "a solver's name, or an object with `name` and its options",
    |text: &str| text.parse().map(SolverRef::Name),
    SolverObject,
    SolverRef::Object
);
string_or_object!(
    ModelRef,
    "a model's id, or an object with `id`, `noise` or `scheduler_config`",
    |text: &str| Ok::<_, String>(ModelRef::Id(text.to_owned())),
    ModelObject,
    |object| ModelRef::Object(Box::new(object))
);

/// Inclusive ranges of the upper level's genes; absent ones have the published range.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoundsFields {
    /// Default [3, 16].
    pub rho: Option<[f64; 2]>,
    /// Default [0.01, 0.03].
    pub t_min: Option<[f64; 2]>,
    /// Default [0.96, 1], or up to 0.999 where lambda is infinite at 1.
    pub t_max: Option<[f64; 2]>,
}

impl OptimizeRequest {
    /// The all-defaults request for a model, solver and NFE.
    #[must_use]
    pub fn of(model: &str, solver: SolverName, nfe: Nfe) -> Self {
        Self {
            model: ModelRef::Id(model.to_owned()),
            solver: SolverRef::Name(solver),
            nfe,
            method: None,
            objective: None,
            p: None,
            gamma: None,
            d_min: None,
            bounds: None,
            population: None,
            generations: None,
            tolerance: None,
            seed: None,
            terminal: None,
            start_sigma: None,
            snap: None,
            resample: None,
            calibrate: None,
            priority: None,
            webhook: None,
        }
    }

    /// The id of the model, where the request names one.
    #[must_use]
    pub fn model_id(&self) -> Option<&str> {
        match &self.model {
            ModelRef::Id(id) => Some(id),
            ModelRef::Object(object) => object.id.as_deref(),
        }
    }
}
