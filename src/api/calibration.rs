//! Calibration in requests and answers: a denoiser in the loop, and what was measured with it.

use super::invalid::InvalidField;
use super::limits::{
    BUDGET, GUIDANCE_SCALE, MAX_CALIBRATED_NFE, MAX_EVALUATIONS, MAX_PROMPT, MAX_PROMPTS, PICTURES,
    SAMPLES, VALIDATION_SAMPLES,
};
use super::prompts::DEFAULT_PROMPTS;
use super::ranges::within;
use super::request::OptimizeRequest;
use super::solver::EffectiveSolver;
use crate::schedule::Terminal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Evaluations a teacher usually takes for a sample, and candidates that are validated.
const TEACHER: u64 = 100;
const CANDIDATES: u64 = 40;

/// Refine against the model itself; the search's own settings shape its starts, and a refined schedule keeps no `d_min`. Every field has a default: `{}` is enough.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrateFields {
    /// Samples the search sees. Default 64; 16 for models that take prompts.
    pub samples: Option<u32>,
    /// Samples, on noise the search never sees, that decide. Default 128; 32 for models that take prompts.
    pub validation_samples: Option<u32>,
    /// Rollouts of all samples that the search may take, the teacher and the validation apart; 0 measures without
    /// refining. Default 200; 100 for models that take prompts.
    pub budget: Option<u32>,
    /// Classifier-free guidance; 1 is the conditional model as it is. Default 1; the pipeline's own (7.5, Stable Diffusion XL 5) for
    /// models that take prompts.
    pub guidance_scale: Option<f64>,
    /// Class labels that go round the samples. Default: every class of the model but its last, which stands for no class (as diffusers'
    /// DiT has it).
    pub class_labels: Option<Vec<u32>>,
    /// What the samples show, one prompt after another going round; for models that take prompts. Default: 16 varied ones.
    pub prompts: Option<Vec<String>>,
    /// What guidance pushes away from. Default: the pipeline's own, no words.
    pub negative_prompt: Option<String>,
    /// Validation samples to show as pictures in the answer, from the reference, the best rule, HSO and the answer. Default 0.
    pub pictures: Option<u32>,
}

/// What a denoiser is, as far as answers depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct DenoiserFacts {
    /// Digest of the weights.
    pub weights: String,
    /// Class labels it takes: `0..classes`; 0 for an unconditional model.
    pub classes: u32,
    /// Whether its answers can be guided: it knows an unconditional one beside the classes.
    pub guidable: bool,
    /// Guidance scale its pipeline has where none is given; present for models that take prompts.
    pub prompted: Option<f64>,
    /// Whether its samples are pictures, or stand for some.
    pub pictures: bool,
}

/// A calibration with nothing left open; part of the cache key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Calibration {
    /// Digest of the model's weights.
    pub weights: String,
    pub samples: u32,
    pub validation_samples: u32,
    pub budget: u32,
    pub guidance_scale: f64,
    pub class_labels: Vec<u32>,
    /// Prompts that go round the samples; none for models that take none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Validation samples that are shown as pictures.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pictures: u32,
    /// Terminals that are searched.
    pub terminals: Vec<Terminal>,
}

impl Calibration {
    /// Reads a calibration's fields; pushes what is wrong with them.
    pub(super) fn resolve(
        fields: &CalibrateFields,
        request: &OptimizeRequest,
        solver: EffectiveSolver,
        denoiser: &DenoiserFacts,
        wrong: &mut Vec<InvalidField>,
    ) -> Self {
        let mut terminals = vec![Terminal::TMin, Terminal::Denoise];
        if let Some(one) = request.terminal {
            wrong.extend(solver.points(one, request.nfe).err());
            terminals = vec![one];
        }
        terminals.retain(|&terminal| solver.points(terminal, request.nfe).is_ok());
        let defaults = Defaults::of(denoiser);
        let mut number = |value, field: &str, range, default| {
            within(value, &format!("/calibrate/{field}"), range, wrong).unwrap_or(default)
        };
        let calibration = Self {
            weights: denoiser.weights.clone(),
            samples: number(fields.samples, "samples", SAMPLES, defaults.samples),
            validation_samples: number(
                fields.validation_samples,
                "validation_samples",
                VALIDATION_SAMPLES,
                2 * defaults.samples,
            ),
            budget: number(fields.budget, "budget", BUDGET, defaults.budget),
            guidance_scale: within(
                fields.guidance_scale,
                "/calibrate/guidance_scale",
                GUIDANCE_SCALE,
                wrong,
            )
            .unwrap_or(defaults.guidance_scale),
            class_labels: fields
                .class_labels
                .clone()
                .unwrap_or_else(|| (0..denoiser.classes).collect()),
            prompts: fields.prompts.clone().unwrap_or(defaults.prompts),
            negative_prompt: fields.negative_prompt.clone(),
            pictures: within(fields.pictures, "/calibrate/pictures", PICTURES, wrong)
                .unwrap_or_default(),
            terminals,
        };
        calibration.check(request, denoiser, wrong);
        calibration.check_prompts(denoiser, wrong);
        calibration
    }

    /// About how often the denoiser is asked for a sample: the teacher, the search and the validation.
    fn evaluations(&self, nfe: u16) -> u64 {
        let (samples, fresh) = (u64::from(self.samples), u64::from(self.validation_samples));
        let rollouts = u64::from(self.budget) * samples + CANDIDATES * fresh;
        TEACHER * (samples + fresh) + rollouts * u64::from(nfe)
    }

    /// Refuses prompts that the model cannot take or that are too many.
    fn check_prompts(&self, denoiser: &DenoiserFacts, wrong: &mut Vec<InvalidField>) {
        let mut refuse = |field: String, detail: String| {
            wrong.push(InvalidField::new(format!("/calibrate/{field}"), detail));
        };
        let has_negative = self.negative_prompt.is_some();
        if denoiser.prompted.is_none() {
            let detail = || "this model takes no prompts: remove it".to_owned();
            if !self.prompts.is_empty() {
                refuse("prompts".to_owned(), detail());
            }
            if has_negative {
                refuse("negative_prompt".to_owned(), detail());
            }
            return;
        }
        if !(1..=MAX_PROMPTS).contains(&self.prompts.len()) {
            let detail = format!("must have 1 to {MAX_PROMPTS} prompts");
            refuse("prompts".to_owned(), detail);
        }
        let all = self.prompts.iter().enumerate();
        let all = all.map(|(i, prompt)| (format!("prompts/{i}"), prompt));
        let negative = self.negative_prompt.iter();
        for (field, prompt) in all.chain(negative.map(|p| ("negative_prompt".to_owned(), p))) {
            if prompt.chars().count() > MAX_PROMPT {
                refuse(field, format!("must have at most {MAX_PROMPT} characters"));
            }
        }
    }

    fn check(
        &self,
        request: &OptimizeRequest,
        denoiser: &DenoiserFacts,
        wrong: &mut Vec<InvalidField>,
    ) {
        let mut refuse = |field: &str, is_wrong: bool, detail: String| {
            if is_wrong {
                wrong.push(InvalidField::new(format!("/{field}"), detail));
            }
        };
        let unknown = self.class_labels.iter().find(|&&l| l >= denoiser.classes);
        refuse(
            "calibrate/class_labels",
            unknown.is_some(),
            match denoiser.classes {
                0 => "this model is not class-conditional: remove it".to_owned(),
                n => format!("this model's classes are 0 to {}", n - 1),
            },
        );
        refuse(
            "calibrate/guidance_scale",
            self.guidance_scale != 1.0
                && denoiser.prompted.is_none()
                && (!denoiser.guidable || self.class_labels.is_empty()),
            "only a model that takes prompts, or a class-conditional one with a null class and given class labels, can be guided: \
             remove it"
                .to_owned(),
        );
        refuse(
            "calibrate/pictures",
            self.pictures > 0 && !denoiser.pictures,
            "this model's samples are no pictures: remove it".to_owned(),
        );
        refuse(
            "start_sigma",
            request.start_sigma.is_some(),
            "a calibration samples from pure noise: remove it".to_owned(),
        );
        refuse(
            "nfe",
            request.nfe.get() > MAX_CALIBRATED_NFE,
            format!("calibration is for at most {MAX_CALIBRATED_NFE} evaluations"),
        );
        let evaluations = self.evaluations(request.nfe.get());
        refuse(
            "calibrate/budget",
            evaluations > MAX_EVALUATIONS,
            format!(
                "this takes about {evaluations} denoiser evaluations; at most {MAX_EVALUATIONS} are allowed: lower samples, \
                 validation_samples, budget or nfe"
            ),
        );
    }
}

/// Whether a field is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a calibration does where the request does not say. Networks that take prompts are a thousand times larger than others.
struct Defaults {
    samples: u32,
    budget: u32,
    guidance_scale: f64,
    prompts: Vec<String>,
}

impl Defaults {
    fn of(denoiser: &DenoiserFacts) -> Self {
        match denoiser.prompted {
            None => Self {
                samples: 64,
                budget: 200,
                guidance_scale: 1.0,
                prompts: Vec::new(),
            },
            Some(guidance_scale) => Self {
                samples: DEFAULT_PROMPTS.len() as u32,
                budget: 100,
                guidance_scale,
                prompts: DEFAULT_PROMPTS.map(str::to_owned).to_vec(),
            },
        }
    }
}

/// What was measured against a fine solve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CalibrationReport {
    pub teacher: Teacher,
    /// Name of the candidate that won; `calibrated` where refining did.
    pub winner: String,
    /// Rollouts of all training samples that were spent.
    pub rollouts: u64,
    /// Every schedule that was measured, with its error on the validation noise, best first.
    pub candidates: Vec<MeasuredCandidate>,
    /// The same samples from several schedules, the reference first; where pictures were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<PictureRow>,
}

/// What a schedule makes of some validation samples, as pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PictureRow {
    /// `reference`, or the name of a candidate.
    pub name: String,
    /// Distance of these pictures, in -1..1 and at full size, from the reference's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<MeasuredError>,
    /// PNG files as `data:` URLs, at most 192 pixels along a side.
    pub pictures: Vec<String>,
}

/// The fine solve that errors are measured against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Teacher {
    pub solver: EffectiveSolver,
    pub nfe: u64,
    /// Mean per-sample RMSE between this solve and one of half the steps.
    pub change: f64,
    pub converged: bool,
}

/// A measured schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredCandidate {
    pub name: String,
    /// Whether this one is the answer.
    pub answer: bool,
    pub solver: EffectiveSolver,
    pub terminal: Terminal,
    /// The start it was refined from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refined_from: Option<String>,
    /// Noise levels at its points, in the units of the schedule's `sigmas`, without a clean end.
    pub sigmas: Vec<f64>,
    pub error: MeasuredError,
}

/// Distance of few-step samples from the fine solve's clean ones, on noise the search never saw. Where no refined schedule won, the
/// same noise has chosen the start that did, which flatters it a little.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredError {
    /// Mean over samples of each one's root mean square difference, in the units of the samples.
    pub value: f64,
    pub median: f64,
    /// Standard error of `value`.
    pub stderr: f64,
    pub samples: u64,
}
