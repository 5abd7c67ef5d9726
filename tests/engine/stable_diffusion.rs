//! Stable Diffusion pipelines against the real diffusers (`tests/diffusers/stable_diffusion.py`), and every way one can be wrong.

use candle_core::Tensor;
use fewstep::denoiser::{
    Batch, ConditionedUnet, Conditions, Demand, Device, LoadError, ModelFolder, Models, ModelsRoot,
    NetworkFiles, Placement, Precision, Prompts, TextEncoders, Tokenizer, VaeDecoder, WeightsFile,
};
use fewstep::schedule::{NoiseSchedule, Schedule, Terminal};
use fewstep::solver::{NoNoise, Solver, Variant, levels, sample};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const PIPELINES: [&str; 3] = ["sd15", "sd21", "xl"];
const UNETS: [&str; 4] = ["classes", "plain-middle", "no-middle", "scaled-middle"];
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const TOLERANCE: f64 = 1e-5;
const CPU: Placement = Placement {
    device: Device::Cpu,
    precision: Precision::F32,
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stable_diffusion")
}

fn pipeline(name: &str) -> ModelFolder {
    ModelsRoot::new(golden()).unwrap().open(name).unwrap()
}

/// What diffusers made of a pipeline or a network.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn of(name: &str) -> Self {
        let path = golden().join(format!("{name}.safetensors"));
        Self(candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap())
    }

    fn batch(&self, key: &str) -> Batch {
        batch(&self.0[key])
    }

    /// Tokens last, as networks have them here.
    fn context(&self, key: &str) -> Batch {
        batch(&self.0[key].transpose(1, 2).unwrap())
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        let numbers: Vec<f32> = self.0[key].to_vec1().unwrap();
        numbers.into_iter().map(f64::from).collect()
    }
}

fn batch(tensor: &Tensor) -> Batch {
    let data = tensor.flatten_all().unwrap().to_vec1().unwrap();
    Batch::new(data, tensor.dim(0).unwrap())
}

fn prompts() -> Vec<String> {
    serde_json::from_value(facts()["prompts"].clone()).unwrap()
}

fn facts() -> Value {
    serde_json::from_slice(&fs::read(golden().join("prompts.json")).unwrap()).unwrap()
}

/// Relative distance in the Euclidean norm.
fn distance(ours: &Batch, theirs: &Batch) -> f64 {
    assert_eq!(
        (ours.samples(), ours.size()),
        (theirs.samples(), theirs.size())
    );
    let (mut square, mut norm) = (0.0, 0.0);
    for (&a, &b) in ours.data().iter().zip(theirs.data()) {
        square += f64::from(a - b) * f64::from(a - b);
        norm += f64::from(b) * f64::from(b);
    }
    (square / norm).sqrt()
}

#[test]
fn prompts_become_the_same_tokens() {
    for name in PIPELINES {
        let (folder, golden) = (pipeline(name), Golden::of(name));
        let text = &folder.pipeline.as_ref().unwrap().text;
        for (files, key) in text.iter().zip(["ids", "ids_2"]) {
            let tokenizer = Tokenizer::new(&files.tokenizer).unwrap();
            let expected: Vec<Vec<u32>> = golden.0[key].to_vec2().unwrap();
            for (prompt, expected) in prompts().iter().zip(expected) {
                assert_eq!(
                    tokenizer.encode(prompt).unwrap(),
                    expected,
                    "{name}: {prompt}"
                );
            }
        }
    }
}

#[test]
fn text_encoders_agree_with_transformers() {
    for name in PIPELINES {
        let (folder, golden) = (pipeline(name), Golden::of(name));
        let text = &folder.pipeline.as_ref().unwrap().text;
        let encoders = TextEncoders::load(text, Device::Cpu).unwrap();
        let encoded = encoders.encode(&prompts()).unwrap();
        let error = distance(&encoded.context, &golden.context("context"));
        assert!(error < TOLERANCE, "{name}: {error:e} off");
        assert_eq!(encoded.pooled.is_some(), name == "xl");
        if let Some(pooled) = encoded.pooled {
            let error = distance(&pooled, &golden.batch("pooled"));
            assert!(error < TOLERANCE, "{name}: pooled {error:e} off");
        }
    }
}

/// A pipeline's network on the first two prompts of its golden.
fn network_error(name: &str, placement: Placement) -> f64 {
    let (folder, golden) = (pipeline(name), Golden::of(name));
    let network = ConditionedUnet::load(&folder.network, placement).unwrap();
    let conditions = Conditions {
        context: golden.context("context").slice(0..2),
        pooled: (name == "xl").then(|| golden.batch("pooled").slice(0..2)),
        labels: None,
    };
    let size = network.config().sample_size.map(|side| 2 * side);
    let (x, timesteps) = (golden.batch("unet.x"), golden.numbers("unet.t"));
    let out = network.predict(&x, &timesteps, &conditions, size).unwrap();
    distance(&out, &golden.batch("unet.out"))
}

#[test]
fn networks_agree_with_diffusers() {
    for name in PIPELINES {
        let error = network_error(name, CPU);
        assert!(error < TOLERANCE, "{name}: {error:e} off");
    }
}

/// f16 on a CPU goes through the operators that GPUs run.
#[test]
fn half_precision_stays_close() {
    for name in PIPELINES {
        let placement = Placement {
            precision: Precision::F16,
            ..CPU
        };
        let error = network_error(name, placement);
        assert!(error < 5e-3, "{name}: {error:e} off");
        assert!(error > 1e-6, "{name} was not computed in half precision");
    }
}

fn bare(name: &str) -> NetworkFiles {
    let folder = golden().join("unets").join(name);
    NetworkFiles {
        config: fs::read(folder.join("config.json")).unwrap(),
        weights: vec![WeightsFile::Path(folder.join(WEIGHTS))],
    }
}

#[test]
fn networks_of_other_shapes_agree_with_diffusers() {
    for name in UNETS {
        let golden = Golden::of(&format!("unets/{name}/golden"));
        let network = ConditionedUnet::load(&bare(name), CPU).unwrap();
        let labels = golden.0.get("labels");
        let conditions = Conditions {
            context: golden.context("context"),
            pooled: None,
            labels: labels.map(|labels| labels.to_vec1().unwrap()),
        };
        let (x, timesteps) = (golden.batch("x"), golden.numbers("t"));
        let out = network
            .predict(&x, &timesteps, &conditions, [0, 0])
            .unwrap();
        let error = distance(&out, &golden.batch("out"));
        assert!(error < TOLERANCE, "{name}: {error:e} off");
    }
}

#[test]
fn pictures_agree_with_diffusers() {
    for name in PIPELINES {
        let (folder, golden) = (pipeline(name), Golden::of(name));
        let decoder = VaeDecoder::load(&folder.pipeline.unwrap().vae, Device::Cpu).unwrap();
        let [height, width] = [2, 3].map(|side| golden.0["vae.latents"].dims()[side]);
        let pixels = decoder
            .decode(&golden.batch("vae.latents"), [height, width])
            .unwrap();
        let expected = golden.0["vae.pixels"].dims();
        assert_eq!(expected[2], decoder.scale() * height);
        let error = distance(&pixels, &golden.batch("vae.pixels"));
        assert!(error < TOLERANCE, "{name}: {error:e} off");
    }
}

/// Epsilon and v prediction, one and two text encoders, guidance, a negative prompt, a schedule of one's own.
#[test]
fn whole_runs_agree_with_diffusers() {
    let models = Models::new(Some(&golden()), CPU, None).unwrap();
    let facts = facts();
    let timesteps: Vec<f64> = serde_json::from_value(facts["timesteps"].clone()).unwrap();
    let prompts = prompts();
    let never = AtomicBool::new(false);
    for name in PIPELINES {
        let (folder, golden) = (pipeline(name), Golden::of(name));
        let denoiser = models
            .open(
                &Demand {
                    name,
                    weights: &models.weights(name).unwrap(),
                    guidance_scale: facts["guidance_scale"].as_f64().unwrap(),
                    prompts: Some(Prompts {
                        positive: prompts[..2].to_vec(),
                        negative: prompts.last().cloned(),
                    }),
                },
                &never,
            )
            .unwrap();
        let spec = folder.scheduler.noise_spec(None, None).unwrap();
        let noise = NoiseSchedule::new(&spec).unwrap();
        let lambdas = timesteps
            .iter()
            .map(|timestep| noise.lambda((timestep + 1.0) / 1000.0));
        let schedule =
            Schedule::from_lambdas(&noise, lambdas.collect(), Terminal::Denoise).unwrap();
        let unipc = Solver::Unipc {
            order: 2,
            variant: Variant::Bh2,
            corrector: true,
        };
        for (solver, key) in [(Solver::Dpmpp2m, "run.dpmpp_2m"), (unipc, "run.unipc")] {
            let start = golden.batch("run.noise");
            let labels = fewstep::denoiser::Conditioning::Classes(vec![0, 1]);
            let latents = sample(
                solver,
                &levels(&noise, &schedule),
                start,
                &mut NoNoise,
                &mut |x, level| denoiser.denoise(x, level, &labels),
            )
            .unwrap();
            let error = distance(&latents, &golden.batch(key));
            assert!(error < 1e-4, "{name}, {key}: {error:e} off");
        }
    }
}

/// A demand for a pipeline with one prompt.
fn demand<'a>(name: &'a str, weights: &'a str) -> Demand<'a> {
    Demand {
        name,
        weights,
        guidance_scale: 7.5,
        prompts: Some(Prompts {
            positive: vec!["a fox".to_owned()],
            negative: None,
        }),
    }
}

#[test]
fn the_least_recently_used_network_makes_room() {
    let open = |models: &Models, name: &str| {
        let weights = models.weights(name).unwrap();
        let never = AtomicBool::new(false);
        drop(models.open(&demand(name, &weights), &never).unwrap());
    };
    let loaded = |models: &Models| {
        let is_loaded = |name: &&str| {
            let description = models.describe(name).unwrap().unwrap();
            description.runtime.unwrap().loaded
        };
        PIPELINES.into_iter().filter(is_loaded).collect::<Vec<_>>()
    };
    let roomy = Models::new(Some(&golden()), CPU, None).unwrap();
    for name in PIPELINES {
        open(&roomy, name);
    }
    assert_eq!(loaded(&roomy), PIPELINES);
    let memory = |name: &str| {
        let description = roomy.describe(name).unwrap().unwrap();
        description.runtime.unwrap().memory
    };
    let largest = PIPELINES.map(memory).into_iter().max().unwrap();
    let tight = Models::new(Some(&golden()), CPU, Some(largest)).unwrap();
    for name in PIPELINES {
        open(&tight, name);
        assert_eq!(loaded(&tight), [name]);
    }
}

#[test]
fn jobs_take_turns_on_a_device_and_can_stop_waiting() {
    let models = Models::new(Some(&golden()), CPU, None).unwrap();
    let weights = models.weights("sd15").unwrap();
    let (never, at_once) = (AtomicBool::new(false), AtomicBool::new(true));
    let first = models.open(&demand("sd15", &weights), &never).unwrap();
    let second = models.open(&demand("sd15", &weights), &at_once);
    assert!(matches!(second.err(), Some(LoadError::Stopped)));
    drop(first);
    assert!(models.open(&demand("sd15", &weights), &never).is_ok());
}

#[test]
fn prompts_go_with_the_models_that_take_them() {
    let models = Models::new(Some(&golden()), CPU, None).unwrap();
    let never = AtomicBool::new(false);
    for name in ["sd15", "fashion-mnist"] {
        let weights = models.weights(name).unwrap();
        let mut asked = demand(name, &weights);
        if name == "sd15" {
            asked.prompts = None;
        }
        let refused = models.open(&asked, &never).err();
        assert!(matches!(refused, Some(LoadError::Prompts(_))), "{name}");
    }
}
