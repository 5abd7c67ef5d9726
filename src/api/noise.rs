//! The wire form of a noise schedule: one flat object, `kind` and that kind's parameters.

use super::invalid::InvalidField;
use super::limits::MAX_TABLE;
use crate::schedule::{Betas, NoiseSchedule, NoiseSpec, VpTable};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which family of noise schedules the parameters belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoiseKind {
    /// `beta_start`, `beta_end`, `steps`: betas evenly spaced (DDPM; ComfyUI's `sqrt_linear`).
    Linear,
    /// `beta_start`, `beta_end`, `steps`: square roots of betas evenly spaced (Stable Diffusion).
    ScaledLinear,
    /// `steps`: the capped cosine of improved DDPM.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredcosCapV2,
    /// `betas`: one per training timestep.
    TrainedBetas,
    /// `alphas_cumprod`: one per training timestep, falling.
    AlphasCumprod,
    /// `beta_d`, `beta_min`, `epsilon_s`: the continuous VP-SDE.
    VpSde,
    /// `sigma_min`, `sigma_max`: EDM.
    Edm,
    /// `shift`, `steps`: flow matching.
    Flow,
}

/// A noise schedule in parameters. Which fields a kind needs is said at the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseFields {
    pub kind: NoiseKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.00085)]
    pub beta_start: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.012)]
    pub beta_end: Option<f64>,
    /// Training timesteps; 1000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1000)]
    pub steps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alphas_cumprod: Option<Vec<f64>>,
    /// Discrete kinds: rescale to zero terminal SNR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescale_betas_zero_snr: Option<bool>,
    /// Discrete kinds: divide the signal-to-noise ratio by this (CogVideoX).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr_shift_scale: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_d: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma_min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma_max: Option<f64>,
    /// Flow matching: the effective shift; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<f64>,
}

const DEFAULT_STEPS: u32 = 1000;

impl NoiseFields {
    fn empty(kind: NoiseKind) -> Self {
        Self {
            kind,
            beta_start: None,
            beta_end: None,
            steps: None,
            betas: None,
            alphas_cumprod: None,
            rescale_betas_zero_snr: None,
            snr_shift_scale: None,
            beta_d: None,
            beta_min: None,
            epsilon_s: None,
            sigma_min: None,
            sigma_max: None,
            shift: None,
        }
    }

    /// The parameters as a noise schedule; `pointer` is where they stand in the request.
    pub(super) fn to_spec(&self, pointer: &str) -> Result<NoiseSpec, InvalidField> {
        self.refuse_foreign_fields(pointer)?;
        let need = |field: &str, value: Option<f64>| {
            value.ok_or_else(|| {
                InvalidField::new(
                    format!("{pointer}/{field}"),
                    format!("is needed for this kind of noise schedule: give `{field}`"),
                )
            })
        };
        let list = |field: &str, values: &Option<Vec<f64>>| {
            let at = format!("{pointer}/{field}");
            match values {
                None => Err(InvalidField::new(at, format!("is needed: give `{field}`"))),
                Some(list) if list.len() > MAX_TABLE => Err(InvalidField::new(
                    at,
                    format!("has {} entries; at most {MAX_TABLE}", list.len()),
                )),
                Some(list) => Ok(list.clone()),
            }
        };
        let steps = self.steps.unwrap_or(DEFAULT_STEPS);
        let betas = match self.kind {
            NoiseKind::VpSde => {
                return Ok(NoiseSpec::VpSde {
                    beta_d: need("beta_d", self.beta_d)?,
                    beta_min: need("beta_min", self.beta_min)?,
                    epsilon_s: self.epsilon_s.unwrap_or(1e-3),
                });
            }
            NoiseKind::Edm => {
                return Ok(NoiseSpec::Edm {
                    sigma_min: need("sigma_min", self.sigma_min)?,
                    sigma_max: need("sigma_max", self.sigma_max)?,
                });
            }
            NoiseKind::Flow => {
                return Ok(NoiseSpec::Flow {
                    shift: self.shift.unwrap_or(1.0),
                    steps,
                });
            }
            NoiseKind::Linear => Betas::Linear {
                start: need("beta_start", self.beta_start)?,
                end: need("beta_end", self.beta_end)?,
                steps,
            },
            NoiseKind::ScaledLinear => Betas::ScaledLinear {
                start: need("beta_start", self.beta_start)?,
                end: need("beta_end", self.beta_end)?,
                steps,
            },
            NoiseKind::SquaredcosCapV2 => Betas::SquaredcosCapV2 { steps },
            NoiseKind::TrainedBetas => Betas::Trained(list("betas", &self.betas)?),
            NoiseKind::AlphasCumprod => {
                Betas::AlphasCumprod(list("alphas_cumprod", &self.alphas_cumprod)?)
            }
        };
        Ok(NoiseSpec::Vp(VpTable {
            betas,
            snr_shift_scale: self.snr_shift_scale,
            rescale_betas_zero_snr: self.rescale_betas_zero_snr.unwrap_or(false),
        }))
    }

    /// The noise schedule of fields that came from one, as an effective request's do.
    ///
    /// # Panics
    /// Never for fields made by `From<&NoiseSpec>`, which holds every parameter its kind needs.
    #[must_use]
    pub fn spec(&self) -> NoiseSpec {
        self.to_spec("").expect("effective noise is complete")
    }

    /// The parameters compiled: fails as [`Self::to_spec`] does, and where they describe no falling SNR.
    pub(super) fn compile(
        &self,
        pointer: &str,
    ) -> Result<(NoiseSpec, NoiseSchedule), InvalidField> {
        let spec = self.to_spec(pointer)?;
        let noise = NoiseSchedule::new(&spec)
            .map_err(|e| InvalidField::new(format!("{pointer}/{}", e.field), e.detail))?;
        Ok((spec, noise))
    }

    /// A parameter of another kind is a mistake, never ignored.
    fn refuse_foreign_fields(&self, pointer: &str) -> Result<(), InvalidField> {
        use NoiseKind::{
            AlphasCumprod, Edm, Flow, Linear, ScaledLinear, SquaredcosCapV2, TrainedBetas, VpSde,
        };
        let discrete: &[NoiseKind] = &[
            Linear,
            ScaledLinear,
            SquaredcosCapV2,
            TrainedBetas,
            AlphasCumprod,
        ];
        let from_range: &[NoiseKind] = &[Linear, ScaledLinear];
        let counted: &[NoiseKind] = &[Linear, ScaledLinear, SquaredcosCapV2, Flow];
        let given = [
            ("beta_start", self.beta_start.is_some(), from_range),
            ("beta_end", self.beta_end.is_some(), from_range),
            ("steps", self.steps.is_some(), counted),
            ("betas", self.betas.is_some(), &[TrainedBetas]),
            (
                "alphas_cumprod",
                self.alphas_cumprod.is_some(),
                &[AlphasCumprod],
            ),
            (
                "rescale_betas_zero_snr",
                self.rescale_betas_zero_snr.is_some(),
                discrete,
            ),
            ("snr_shift_scale", self.snr_shift_scale.is_some(), discrete),
            ("beta_d", self.beta_d.is_some(), &[VpSde]),
            ("beta_min", self.beta_min.is_some(), &[VpSde]),
            ("epsilon_s", self.epsilon_s.is_some(), &[VpSde]),
            ("sigma_min", self.sigma_min.is_some(), &[Edm]),
            ("sigma_max", self.sigma_max.is_some(), &[Edm]),
            ("shift", self.shift.is_some(), &[Flow]),
        ];
        for (field, is_given, kinds) in given {
            if is_given && !kinds.contains(&self.kind) {
                return Err(InvalidField::new(
                    format!("{pointer}/{field}"),
                    "does not belong to this kind of noise schedule: remove it",
                ));
            }
        }
        Ok(())
    }
}

impl From<&NoiseSpec> for NoiseFields {
    /// Every parameter written out, so that equal schedules have equal digests.
    fn from(spec: &NoiseSpec) -> Self {
        match spec {
            NoiseSpec::Vp(table) => {
                let fields = match &table.betas {
                    &Betas::Linear { start, end, steps } => Self {
                        beta_start: Some(start),
                        beta_end: Some(end),
                        steps: Some(steps),
                        ..Self::empty(NoiseKind::Linear)
                    },
                    &Betas::ScaledLinear { start, end, steps } => Self {
                        beta_start: Some(start),
                        beta_end: Some(end),
                        steps: Some(steps),
                        ..Self::empty(NoiseKind::ScaledLinear)
                    },
                    &Betas::SquaredcosCapV2 { steps } => Self {
                        steps: Some(steps),
                        ..Self::empty(NoiseKind::SquaredcosCapV2)
                    },
                    Betas::Trained(betas) => Self {
                        betas: Some(betas.clone()),
                        ..Self::empty(NoiseKind::TrainedBetas)
                    },
                    Betas::AlphasCumprod(alphas) => Self {
                        alphas_cumprod: Some(alphas.clone()),
                        ..Self::empty(NoiseKind::AlphasCumprod)
                    },
                };
                Self {
                    snr_shift_scale: table.snr_shift_scale,
                    rescale_betas_zero_snr: Some(table.rescale_betas_zero_snr),
                    ..fields
                }
            }
            &NoiseSpec::VpSde {
                beta_d,
                beta_min,
                epsilon_s,
            } => Self {
                beta_d: Some(beta_d),
                beta_min: Some(beta_min),
                epsilon_s: Some(epsilon_s),
                ..Self::empty(NoiseKind::VpSde)
            },
            &NoiseSpec::Edm {
                sigma_min,
                sigma_max,
            } => Self {
                sigma_min: Some(sigma_min),
                sigma_max: Some(sigma_max),
                ..Self::empty(NoiseKind::Edm)
            },
            &NoiseSpec::Flow { shift, steps } => Self {
                shift: Some(shift),
                steps: Some(steps),
                ..Self::empty(NoiseKind::Flow)
            },
        }
    }
}
