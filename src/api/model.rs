//! Models as the contract sees them: an id, a noise schedule, and for distilled ones the schedule they carry.

use super::digest::Digest;
use super::invalid::{Invalid, InvalidField};
use super::noise::NoiseFields;
use super::request::ModelRef;
use crate::schedule::families::{self, Family, Published};
use crate::schedule::{NoiseSchedule, NoiseSpec, Prediction, SchedulerConfig};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Ids under this prefix name inline models by their noise.
const INLINE_PREFIX: &str = "noise-";
const MAX_ID: usize = 64;

/// A model's name in paths: lower-case letters, digits, `.`, `_`, `-`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
pub struct ModelId(String);

impl ModelId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
        let starts_well = text
            .bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= MAX_ID && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(format!(
                "a model id is 1 to {MAX_ID} lower-case letters, digits, '.', '_' or '-', starting with a letter or digit"
            ))
        }
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model ready to be searched.
pub struct Model {
    pub id: String,
    pub spec: NoiseSpec,
    pub noise: NoiseSchedule,
    pub published: Option<&'static Published>,
}

impl Model {
    /// Finds or builds what a request names. `registered` is the noise of a registered model with that id.
    pub(super) fn find(
        reference: &ModelRef,
        registered: Option<&NoiseFields>,
    ) -> Result<Self, Invalid> {
        let object = match reference {
            ModelRef::Id(id) => return Self::named(id, "/model", None, registered),
            ModelRef::Object(object) => object,
        };
        match (&object.id, &object.noise, &object.scheduler_config) {
            (Some(id), None, None) => {
                let adjust = Adjust {
                    width: object.width,
                    height: object.height,
                    shift: object.shift,
                };
                Self::named(id, "/model/id", Some(adjust), registered)
            }
            (None, Some(noise), None) => {
                for (field, given) in [
                    ("width", object.width.is_some()),
                    ("height", object.height.is_some()),
                    ("shift", object.shift.is_some()),
                ] {
                    if given {
                        return Err(InvalidField::new(
                            format!("/model/{field}"),
                            "does not go with an inline noise schedule: give its effective `shift` there",
                        )
                        .into());
                    }
                }
                let (spec, noise) = noise.compile("/model/noise")?;
                Ok(Self::inline(spec, noise))
            }
            (None, None, Some(config)) => {
                let spec = config
                    .noise_spec(object.width, object.height)
                    .map_err(|e| {
                        InvalidField::new(format!("/model/scheduler_config/{}", e.field), e.detail)
                    })?;
                let (spec, noise) = NoiseFields::from(&spec).compile("/model/scheduler_config")?;
                Ok(Self::inline(spec, noise))
            }
            _ => Err(InvalidField::new(
                "/model",
                "give exactly one of `id`, `noise` and `scheduler_config`",
            )
            .into()),
        }
    }

    fn named(
        id: &str,
        pointer: &str,
        adjust: Option<Adjust>,
        registered: Option<&NoiseFields>,
    ) -> Result<Self, Invalid> {
        let adjust = adjust.unwrap_or_default();
        if let Some(family) = families::find(id) {
            let spec = family
                .noise_spec(adjust.width, adjust.height, adjust.shift)
                .map_err(|e| InvalidField::new(format!("/model/{}", e.field), e.detail))?;
            let noise = NoiseSchedule::new(&spec)
                .map_err(|e| InvalidField::new("/model/shift", e.to_string()))?;
            return Ok(Self {
                id: id.to_owned(),
                spec,
                noise,
                published: family.published.as_ref(),
            });
        }
        let Some(fields) = registered else {
            return Err(InvalidField::new(
                pointer,
                format!(
                    "unknown model `{id}`; GET /v1/models (or `fewstep models`) lists the known ones, or describe it inline \
                     with `noise` or `scheduler_config`"
                ),
            )
            .into());
        };
        if adjust != Adjust::default() {
            return Err(InvalidField::new(
                "/model",
                "width, height and shift only go with built-in models: register the effective noise schedule instead",
            )
            .into());
        }
        let (spec, noise) = fields.compile("/model")?;
        Ok(Self {
            id: id.to_owned(),
            spec,
            noise,
            published: None,
        })
    }

    fn inline(spec: NoiseSpec, noise: NoiseSchedule) -> Self {
        let digest = Digest::of(&NoiseFields::from(&spec));
        Self {
            id: format!("{INLINE_PREFIX}{}", digest.short()),
            spec,
            noise,
            published: None,
        }
    }
}

/// What a request may change about a built-in model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Adjust {
    width: Option<u32>,
    height: Option<u32>,
    shift: Option<f64>,
}

/// Registers a model: exactly one of `noise` and `scheduler_config`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "my-model", "noise": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}}))]
pub struct ModelRequest {
    pub id: ModelId,
    pub noise: Option<NoiseFields>,
    /// A diffusers `scheduler_config.json`, as it is.
    #[schema(value_type = Option<Object>)]
    pub scheduler_config: Option<SchedulerConfig>,
    /// What the network predicts; read from `scheduler_config` where that says.
    pub prediction: Option<Prediction>,
    /// Image size in pixels, for a `scheduler_config` whose shift depends on it.
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// Where a network runs in this process, and what it takes there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeInfo {
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Numbers it computes with: `f32`, `f16`, `bf16`.
    pub dtype: String,
    /// Bytes of the device's memory that it needs, by its configs and the sizes of its weights.
    pub memory_bytes: u64,
    /// Whether it is in that memory now.
    pub loaded: bool,
}

/// A model the service knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    pub id: String,
    pub built_in: bool,
    /// Whether its denoiser is at hand, so that schedules can be calibrated on it.
    #[serde(default)]
    pub denoiser: bool,
    /// Where its network runs; mixtures have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeInfo>,
    /// Whether its samples show prompts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prompts: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The noise schedule at the native resolution.
    pub noise: NoiseFields,
    /// The times a schedule may use, lowest first; below 1 where log-SNR is infinite at 1.
    pub t_range: [f64; 2],
    /// The noise levels at those times.
    pub sigma_range: [f64; 2],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// Native image size in pixels, [width, height].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<[u32; 2]>,
    /// Distilled models: the evaluations they were trained for. They answer their published schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled_nfe: Option<Vec<usize>>,
    /// Where the figures come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl ModelInfo {
    /// A built-in family at its native resolution.
    ///
    /// # Panics
    /// Never: every built-in family is compiled by a test.
    #[must_use]
    pub fn of_family(family: &'static Family) -> Self {
        let spec = family
            .noise_spec(None, None, None)
            .expect("built-in families have a noise schedule at their native resolution");
        let noise = NoiseSchedule::new(&spec).expect("built-in families compile");
        Self {
            built_in: true,
            title: Some(family.title.to_owned()),
            prediction: Some(family.prediction),
            resolution: Some(family.resolution.into()),
            distilled_nfe: family
                .published
                .as_ref()
                .map(|published| published.nfes().collect()),
            source: Some(family.source.to_owned()),
            ..Self::plain(family.id, &spec, &noise)
        }
    }

    /// A model of which only the noise is known.
    fn plain(id: &str, spec: &NoiseSpec, noise: &NoiseSchedule) -> Self {
        let (low, high) = noise.t_range();
        let sigma = |t: f64| noise.sigma(noise.lambda(t));
        Self {
            id: id.to_owned(),
            built_in: false,
            denoiser: false,
            runtime: None,
            prompts: false,
            title: None,
            noise: NoiseFields::from(spec),
            t_range: [low, high],
            sigma_range: [sigma(low), sigma(high)],
            prediction: None,
            resolution: None,
            distilled_nfe: None,
            source: None,
        }
    }

    /// What an inline model is remembered as; nothing for a name that is none, or noise that does not compile.
    #[must_use]
    pub fn of_inline(id: &str, noise: &NoiseFields) -> Option<Self> {
        if !id.starts_with(INLINE_PREFIX) {
            return None;
        }
        let (spec, noise) = noise.compile("").ok()?;
        Some(Self::plain(id, &spec, &noise))
    }

    /// A model under the models root.
    pub fn of_folder(
        id: &str,
        noise: &NoiseFields,
        prediction: Option<Prediction>,
    ) -> Result<Self, Invalid> {
        let (spec, noise) = noise.compile("")?;
        Ok(Self {
            prediction,
            ..Self::plain(id, &spec, &noise)
        })
    }

    /// Reads a registration.
    pub fn from_request(request: &ModelRequest) -> Result<Self, Invalid> {
        let id = request.id.as_str();
        if families::find(id).is_some() || id.starts_with(INLINE_PREFIX) {
            return Err(InvalidField::new(
                "/id",
                "is the name of a built-in or inline model: choose another",
            )
            .into());
        }
        let ((spec, noise), prediction) = match (&request.noise, &request.scheduler_config) {
            (Some(fields), None) => (fields.compile("/noise")?, request.prediction),
            (None, Some(config)) => {
                let spec = config
                    .noise_spec(request.width, request.height)
                    .map_err(|e| {
                        InvalidField::new(format!("/scheduler_config/{}", e.field), e.detail)
                    })?;
                (
                    NoiseFields::from(&spec).compile("/scheduler_config")?,
                    request.prediction.or_else(|| config.prediction()),
                )
            }
            _ => {
                return Err(InvalidField::new(
                    "",
                    "give exactly one of `noise` and `scheduler_config`",
                )
                .into());
            }
        };
        Ok(Self {
            prediction,
            ..Self::plain(id, &spec, &noise)
        })
    }
}
