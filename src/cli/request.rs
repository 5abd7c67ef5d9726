//! The flags that make an optimisation request, shared by `optimize` and `compare`.

use crate::api::{
    BoundsFields, CalibrateFields, Effective, Invalid, InvalidField, MethodName, ModelObject,
    ModelRef, Nfe, NoiseFields, NoiseKind, ObjectiveName, OptimizeRequest, SolverName,
    SolverObject, SolverRef, SolverVariant, resolve,
};
use crate::denoiser::Models;
use crate::optimize::known;
use crate::schedule::{SchedulerConfig, Terminal};
use anyhow::Context;
use clap::Args;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// Which timesteps, for which model, solver and NFE.
#[derive(Clone, Debug, Args)]
pub struct RequestArgs {
    /// A built-in model; `fewstep models` lists them.
    #[arg(long, env = "FEWSTEP_MODEL", conflicts_with_all = ["noise", "scheduler_config"], required_unless_present_any = ["noise", "scheduler_config"])]
    model: Option<String>,
    /// An inline noise schedule, KIND:VALUES, such as `scaled_linear:0.00085:0.012:1000`, `squaredcos_cap_v2:1000`,
    /// `edm:0.002:80` or `flow:3`.
    #[arg(long, env = "FEWSTEP_NOISE", conflicts_with = "scheduler_config")]
    noise: Option<String>,
    /// A diffusers `scheduler_config.json`.
    #[arg(long, env = "FEWSTEP_SCHEDULER_CONFIG", value_name = "FILE")]
    scheduler_config: Option<PathBuf>,
    /// Image width in pixels, where the model's shift depends on it.
    #[arg(long, env = "FEWSTEP_WIDTH")]
    width: Option<u32>,
    /// Image height in pixels, likewise.
    #[arg(long, env = "FEWSTEP_HEIGHT")]
    height: Option<u32>,
    /// Flow models: use this shift.
    #[arg(long, env = "FEWSTEP_SHIFT")]
    shift: Option<f64>,
    /// The sampler: ddim (or euler), unipc, `dpmpp_2m`, `dpmpp_3m`, heun, deis, ipndm, `euler_ancestral`, `sde_dpmpp_2m`; with
    /// --calibrate also auto.
    #[arg(long, env = "FEWSTEP_SOLVER")]
    solver: SolverName,
    /// Order of unipc and deis, 1 to 3; of ipndm, 1 to 4.
    #[arg(long, env = "FEWSTEP_SOLVER_ORDER")]
    solver_order: Option<u8>,
    /// Variant of unipc, bh1 or bh2.
    #[arg(long, env = "FEWSTEP_SOLVER_VARIANT", value_parser = named::<SolverVariant>)]
    solver_variant: Option<SolverVariant>,
    /// unipc without its corrector.
    #[arg(long, env = "FEWSTEP_NO_CORRECTOR")]
    no_corrector: bool,
    /// Denoiser evaluations per sample, 1 to 256.
    #[arg(long, env = "FEWSTEP_NFE")]
    nfe: Nfe,
    /// hso, hso-constrained or published.
    #[arg(long, env = "FEWSTEP_METHOD", value_parser = named::<MethodName>)]
    method: Option<MethodName>,
    /// mep, unipc-bound or unipc-midpoint.
    #[arg(long, env = "FEWSTEP_OBJECTIVE", value_parser = named::<ObjectiveName>)]
    objective: Option<ObjectiveName>,
    /// Exponent of the error model [default: 2].
    #[arg(long, env = "FEWSTEP_P")]
    p: Option<f64>,
    /// Weight of the spacing penalty [default: 1e9].
    #[arg(long, env = "FEWSTEP_GAMMA")]
    gamma: Option<f64>,
    /// Least gap in t [default: 0.15 at NFE 4 to 0.01 at NFE 20].
    #[arg(long, env = "FEWSTEP_D_MIN")]
    d_min: Option<f64>,
    /// Box of the upper level, such as `rho=3:16,t_min=0.01:0.03,t_max=0.96:1`.
    #[arg(
        long,
        env = "FEWSTEP_BOUNDS",
        value_delimiter = ',',
        value_name = "GENE=LOW:HIGH"
    )]
    bounds: Vec<Bound>,
    /// Population members for every gene [default: 20].
    #[arg(long, env = "FEWSTEP_POPULATION")]
    population: Option<u32>,
    /// Generations at most [default: 60].
    #[arg(long, env = "FEWSTEP_GENERATIONS")]
    generations: Option<u32>,
    /// Spread of fitness that ends the search [default: 0.01].
    #[arg(long, env = "FEWSTEP_TOLERANCE")]
    tolerance: Option<f64>,
    /// Seed of the search [default: 66].
    #[arg(long, env = "FEWSTEP_SEED")]
    seed: Option<u64>,
    /// `t_min` or denoise [default: `t_min` for unipc and `dpmpp_2m`, else denoise; a calibration tries both].
    #[arg(long, env = "FEWSTEP_TERMINAL", value_parser = named::<Terminal>)]
    terminal: Option<Terminal>,
    /// Start at this noise level instead of searching `t_max`.
    #[arg(long, env = "FEWSTEP_START_SIGMA")]
    start_sigma: Option<f64>,
    /// Whole training timesteps only.
    #[arg(long, env = "FEWSTEP_SNAP")]
    snap: bool,
    /// Distilled models: stretch the published schedule to another NFE.
    #[arg(long, env = "FEWSTEP_RESAMPLE")]
    resample: bool,
    #[command(flatten)]
    calibration: CalibrationArgs,
}

/// Whether and how the model itself is in the loop.
#[derive(Clone, Debug, Args)]
#[group(id = "calibration")]
struct CalibrationArgs {
    /// Refine against the model itself; minutes rather than milliseconds.
    #[arg(long, env = "FEWSTEP_CALIBRATE")]
    calibrate: bool,
    /// Samples the calibration sees [default: 64; 16 for models that take prompts].
    #[arg(long, env = "FEWSTEP_SAMPLES", requires = "calibrate")]
    samples: Option<u32>,
    /// Samples, on noise the calibration never sees, that decide [default: 128; 32 for models that take prompts].
    #[arg(long, env = "FEWSTEP_VALIDATION_SAMPLES", requires = "calibrate")]
    validation_samples: Option<u32>,
    /// Rollouts of all samples the calibration may take; 0 measures without refining [default: 200; 100 for models that take prompts].
    #[arg(long, env = "FEWSTEP_BUDGET", requires = "calibrate")]
    budget: Option<u32>,
    /// Classifier-free guidance [default: 1; the pipeline's own for models that take prompts].
    #[arg(long, env = "FEWSTEP_GUIDANCE_SCALE", requires = "calibrate")]
    guidance_scale: Option<f64>,
    /// Class labels that go round the samples [default: every class].
    #[arg(
        long,
        env = "FEWSTEP_CLASS_LABELS",
        value_delimiter = ',',
        requires = "calibrate"
    )]
    class_labels: Option<Vec<u32>>,
    /// What the samples show, for models that take prompts; give it again for more prompts [default: 16 varied ones].
    #[arg(
        long = "prompt",
        env = "FEWSTEP_PROMPT",
        value_name = "PROMPT",
        requires = "calibrate"
    )]
    prompts: Option<Vec<String>>,
    /// What guidance pushes away from.
    #[arg(long, env = "FEWSTEP_NEGATIVE_PROMPT", requires = "calibrate")]
    negative_prompt: Option<String>,
    /// Validation samples to show as pictures, 4 at most; `compare --format pictures` draws them [default: 0].
    #[arg(long, env = "FEWSTEP_PICTURES", requires = "calibrate")]
    pictures: Option<u32>,
}

impl CalibrationArgs {
    fn fields(&self) -> Option<CalibrateFields> {
        self.calibrate.then(|| CalibrateFields {
            samples: self.samples,
            validation_samples: self.validation_samples,
            budget: self.budget,
            guidance_scale: self.guidance_scale,
            class_labels: self.class_labels.clone(),
            prompts: self.prompts.clone(),
            negative_prompt: self.negative_prompt.clone(),
            pictures: self.pictures,
        })
    }
}

impl RequestArgs {
    /// The request, read as the service reads it.
    pub fn effective(&self, models: &Models) -> anyhow::Result<Effective> {
        let request = self.request()?;
        Ok(resolve(&request, &known(&request, None, models)?)?)
    }

    fn request(&self) -> anyhow::Result<OptimizeRequest> {
        let mut bounds = BoundsFields::default();
        for Bound { gene, range } in &self.bounds {
            match gene {
                Gene::Rho => bounds.rho = Some(*range),
                Gene::TMin => bounds.t_min = Some(*range),
                Gene::TMax => bounds.t_max = Some(*range),
            }
        }
        Ok(OptimizeRequest {
            model: self.model()?,
            solver: SolverRef::Object(SolverObject {
                name: self.solver,
                order: self.solver_order,
                variant: self.solver_variant,
                corrector: self.no_corrector.then_some(false),
            }),
            nfe: self.nfe,
            method: self.method,
            objective: self.objective,
            p: self.p,
            gamma: self.gamma,
            d_min: self.d_min,
            bounds: Some(bounds).filter(|b| *b != BoundsFields::default()),
            population: self.population,
            generations: self.generations,
            tolerance: self.tolerance,
            seed: self.seed,
            terminal: self.terminal,
            start_sigma: self.start_sigma,
            snap: self.snap.then_some(true),
            resample: self.resample.then_some(true),
            calibrate: self.calibration.fields(),
            priority: None,
            webhook: None,
        })
    }

    fn model(&self) -> anyhow::Result<ModelRef> {
        let scheduler_config = self
            .scheduler_config
            .as_deref()
            .map(read_config)
            .transpose()?;
        let noise = self.noise.as_deref().map(parse_noise).transpose()?;
        Ok(ModelRef::Object(Box::new(ModelObject {
            id: self.model.clone(),
            noise,
            scheduler_config,
            width: self.width,
            height: self.height,
            shift: self.shift,
        })))
    }
}

fn read_config(path: &std::path::Path) -> anyhow::Result<SchedulerConfig> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the scheduler config {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no scheduler_config.json", path.display()))
}

/// Reads an enum of the contract by its wire name.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|e| e.to_string())
}

/// `KIND:VALUES`, values in the order of the kind's fields.
fn parse_noise(text: &str) -> Result<NoiseFields, Invalid> {
    let wrong = |detail: String| Invalid(vec![InvalidField::new("/noise", detail)]);
    let mut parts = text.split(':');
    let kind: NoiseKind = named(parts.next().unwrap_or_default()).map_err(wrong)?;
    let fields: &[&str] = match kind {
        NoiseKind::Linear | NoiseKind::ScaledLinear => &["beta_start", "beta_end", "steps"],
        NoiseKind::SquaredcosCapV2 => &["steps"],
        NoiseKind::VpSde => &["beta_d", "beta_min", "epsilon_s"],
        NoiseKind::Edm => &["sigma_min", "sigma_max"],
        NoiseKind::Flow => &["shift", "steps"],
        NoiseKind::TrainedBetas | NoiseKind::AlphasCumprod => {
            return Err(wrong(
                "tables do not fit on a command line; use --scheduler-config".to_owned(),
            ));
        }
    };
    let mut object = serde_json::Map::new();
    object.insert("kind".to_owned(), serde_json::json!(kind));
    for (i, value) in parts.enumerate() {
        let field = fields
            .get(i)
            .ok_or_else(|| wrong(format!("too many values; expected {}", fields.join(":"))))?;
        let number = value
            .parse::<serde_json::Number>()
            .map_err(|_| wrong(format!("`{value}` is no number for {field}")))?;
        object.insert((*field).to_owned(), number.into());
    }
    serde_json::from_value(object.into()).map_err(|e| wrong(e.to_string()))
}

#[derive(Clone, Copy, Debug)]
enum Gene {
    Rho,
    TMin,
    TMax,
}

/// One `GENE=LOW:HIGH`.
#[derive(Clone, Copy, Debug)]
struct Bound {
    gene: Gene,
    range: [f64; 2],
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "write GENE=LOW:HIGH with GENE one of rho, t_min, t_max".to_owned();
        let (gene, range) = text.split_once('=').ok_or_else(expected)?;
        let (low, high) = range.split_once(':').ok_or_else(expected)?;
        let number = |text: &str| text.parse::<f64>().map_err(|_| expected());
        Ok(Self {
            gene: match gene {
                "rho" => Gene::Rho,
                "t_min" => Gene::TMin,
                "t_max" => Gene::TMax,
                _ => return Err(expected()),
            },
            range: [number(low)?, number(high)?],
        })
    }
}
