//! Reads a diffusers `scheduler_config.json` as it is: which noise schedule and prediction it stands for.
//!
//! Fields that only choose a solver or a spacing are ignored; what the noise depends on is read with the defaults of the
//! config's own class (diffusers 0.42), and refused by name where it describes something this crate cannot map.

use super::shift::{DynamicShift, Shift, ShiftKind};
use super::spec::{Betas, NoiseSpec, Prediction, VpTable};
use serde::Deserialize;

/// Image pixels along one side of a token: every pipeline with a dynamic shift has 8x latents in 2x2 patches.
const TOKEN_PIXELS: u32 = 16;

/// The fields of a scheduler config that its noise depends on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    num_train_timesteps: Option<u32>,
    beta_schedule: Option<String>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    trained_betas: Option<Vec<f64>>,
    rescale_betas_zero_snr: Option<bool>,
    snr_shift_scale: Option<f64>,
    prediction_type: Option<String>,
    timestep_type: Option<String>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    shift: Option<f64>,
    use_flow_sigmas: Option<bool>,
    flow_shift: Option<f64>,
    use_dynamic_shifting: Option<bool>,
    time_shift_type: Option<String>,
    base_shift: Option<f64>,
    max_shift: Option<f64>,
    base_image_seq_len: Option<u32>,
    max_image_seq_len: Option<u32>,
}

/// A config that describes no noise schedule known here; `field` is its offending field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct ConfigError {
    pub field: &'static str,
    pub detail: String,
}

impl ConfigError {
    fn new(field: &'static str, detail: impl Into<String>) -> Self {
        Self {
            field,
            detail: detail.into(),
        }
    }
}

impl SchedulerConfig {
    /// The noise schedule, at an image size where that matters.
    pub fn noise_spec(
        &self,
        width: Option<u32>,
        height: Option<u32>,
    ) -> Result<NoiseSpec, ConfigError> {
        let class = self.class_name.as_deref().ok_or_else(|| {
            ConfigError::new(
                "_class_name",
                "is missing: give the scheduler_config.json whole",
            )
        })?;
        if class.starts_with("FlowMatch") || self.use_flow_sigmas == Some(true) {
            let shift = self.shift()?;
            let (width, height) = match (shift, width, height) {
                (Shift::Static(_), _, _) => (0, 0),
                (Shift::Dynamic(_), Some(width), Some(height)) => (width, height),
                (Shift::Dynamic(_), _, _) => {
                    return Err(ConfigError::new(
                        "use_dynamic_shifting",
                        "the shift depends on the image size: give `width` and `height` in pixels",
                    ));
                }
            };
            return Ok(NoiseSpec::Flow {
                shift: shift.at(width, height),
                steps: self.num_train_timesteps.unwrap_or(1000),
            });
        }
        if class.starts_with("EDM") || self.timestep_type.as_deref() == Some("continuous") {
            return Ok(NoiseSpec::Edm {
                sigma_min: self.sigma_min.unwrap_or(0.002),
                sigma_max: self.sigma_max.unwrap_or(80.0),
            });
        }
        Ok(NoiseSpec::Vp(self.vp_table(class)?))
    }

    /// What the network predicts, where the config says.
    #[must_use]
    pub fn prediction(&self) -> Option<Prediction> {
        if self.class_name.as_deref()?.starts_with("FlowMatch") {
            return Some(Prediction::FlowPrediction);
        }
        match self.prediction_type.as_deref()? {
            "epsilon" => Some(Prediction::Epsilon),
            "v_prediction" => Some(Prediction::VPrediction),
            "sample" => Some(Prediction::Sample),
            "flow_prediction" => Some(Prediction::FlowPrediction),
            _ => None,
        }
    }

    fn shift(&self) -> Result<Shift, ConfigError> {
        if self.use_dynamic_shifting != Some(true) {
            return Ok(Shift::Static(self.shift.or(self.flow_shift).unwrap_or(1.0)));
        }
        let kind = match self.time_shift_type.as_deref() {
            None | Some("exponential") => ShiftKind::Exponential,
            Some("linear") => ShiftKind::Linear,
            Some(other) => {
                return Err(ConfigError::new(
                    "time_shift_type",
                    format!("`{other}` is not known; exponential and linear are"),
                ));
            }
        };
        let base = (
            self.base_image_seq_len.unwrap_or(256),
            self.base_shift.unwrap_or(0.5),
        );
        let max = (
            self.max_image_seq_len.unwrap_or(4096),
            self.max_shift.unwrap_or(1.15),
        );
        if max.0 <= base.0 {
            return Err(ConfigError::new(
                "max_image_seq_len",
                "must be above base_image_seq_len",
            ));
        }
        Ok(Shift::Dynamic(DynamicShift {
            kind,
            base,
            max,
            patch: TOKEN_PIXELS,
        }))
    }

    fn vp_table(&self, class: &str) -> Result<VpTable, ConfigError> {
        let latent = ["LCM", "TCD", "CogVideoX"]
            .iter()
            .any(|name| class.starts_with(name));
        let (start, end, schedule) = if latent {
            (0.00085, 0.012, "scaled_linear")
        } else {
            (0.0001, 0.02, "linear")
        };
        let start = self.beta_start.unwrap_or(start);
        let end = self.beta_end.unwrap_or(end);
        let steps = self.num_train_timesteps.unwrap_or(1000);
        let betas = match (
            &self.trained_betas,
            self.beta_schedule.as_deref().unwrap_or(schedule),
        ) {
            (Some(betas), _) => Betas::Trained(betas.clone()),
            (None, "linear") => Betas::Linear { start, end, steps },
            (None, "scaled_linear") => Betas::ScaledLinear { start, end, steps },
            (None, "squaredcos_cap_v2") => Betas::SquaredcosCapV2 { steps },
            (None, other) => {
                return Err(ConfigError::new(
                    "beta_schedule",
                    format!(
                        "`{other}` is not known; linear, scaled_linear and squaredcos_cap_v2 are"
                    ),
                ));
            }
        };
        let default_scale = class.starts_with("CogVideoX").then_some(3.0);
        Ok(VpTable {
            betas,
            snr_shift_scale: self.snr_shift_scale.or(default_scale),
            rescale_betas_zero_snr: self.rescale_betas_zero_snr.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> SchedulerConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn stable_diffusion_and_cogvideox_configs() {
        let sd = read(
            r#"{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
                "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
                "prediction_type": "v_prediction"}"#,
        );
        assert_eq!(
            sd.noise_spec(None, None),
            Ok(NoiseSpec::Vp(VpTable::scaled_linear(0.00085, 0.012, 1000)))
        );
        assert_eq!(sd.prediction(), Some(Prediction::VPrediction));
        let cog = read(
            r#"{"_class_name": "CogVideoXDDIMScheduler", "rescale_betas_zero_snr": true, "snr_shift_scale": 3.0}"#,
        );
        assert_eq!(
            cog.noise_spec(None, None),
            Ok(NoiseSpec::Vp(
                VpTable::scaled_linear(0.00085, 0.012, 1000)
                    .snr_shifted(3.0)
                    .zero_terminal_snr()
            ))
        );
    }

    #[test]
    fn flow_configs_need_a_size_only_where_the_shift_is_dynamic() {
        let sd3 = read(r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}"#);
        let flow = |shift| NoiseSpec::Flow { shift, steps: 1000 };
        assert_eq!(sd3.noise_spec(None, None), Ok(flow(3.0)));
        let wan = read(
            r#"{"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true, "flow_shift": 5.0,
                "prediction_type": "flow_prediction"}"#,
        );
        assert_eq!(wan.noise_spec(None, None), Ok(flow(5.0)));
        let flux = read(
            r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256, "base_shift": 0.5,
                "max_image_seq_len": 4096, "max_shift": 1.15, "shift": 3.0, "use_dynamic_shifting": true}"#,
        );
        assert_eq!(
            flux.noise_spec(None, None).unwrap_err().field,
            "use_dynamic_shifting"
        );
        assert_eq!(
            flux.noise_spec(Some(1024), Some(1024)),
            Ok(flow(libm::exp(1.15)))
        );
    }

    #[test]
    fn edm_and_continuous_configs_are_sigma_ranges() {
        let playground = read(
            r#"{"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_max": 80.0, "sigma_min": 0.002}"#,
        );
        assert_eq!(
            playground.noise_spec(None, None),
            Ok(NoiseSpec::Edm {
                sigma_min: 0.002,
                sigma_max: 80.0
            })
        );
        let svd = read(
            r#"{"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous", "sigma_max": 700.0,
                "sigma_min": 0.002, "prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}"#,
        );
        assert_eq!(
            svd.noise_spec(None, None),
            Ok(NoiseSpec::Edm {
                sigma_min: 0.002,
                sigma_max: 700.0
            })
        );
    }

    #[test]
    fn unknown_tables_are_refused_by_name() {
        let sigmoid = read(r#"{"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"}"#);
        assert_eq!(
            sigmoid.noise_spec(None, None).unwrap_err().field,
            "beta_schedule"
        );
        assert_eq!(
            read("{}").noise_spec(None, None).unwrap_err().field,
            "_class_name"
        );
    }
}
