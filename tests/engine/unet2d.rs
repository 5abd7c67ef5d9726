//! Networks against diffusers' own outputs (`tests/diffusers/unet2d.py`), and every way a model can be wrong.

use candle_core::Tensor;
use fewstep::denoiser::{
    Batch, Conditioning, Denoiser, DenoiserError, Device, Digests, LoadError, ModelFolder,
    ModelsRoot, Unet2dConfig, UnetDenoiser, WeightsFile,
};
use fewstep::solver::Level;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const SCHEDULER: &[u8] = br#"{"_class_name": "DDPMScheduler", "prediction_type": "epsilon"}"#;
const TOLERANCE: f64 = 1e-5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/unet2d")
        .join(name)
}

fn bytes(case: &str, file: &str) -> Vec<u8> {
    fs::read(golden(case).join(file)).unwrap()
}

fn config(case: &str) -> Value {
    serde_json::from_slice(&bytes(case, "config.json")).unwrap()
}

/// Loads a case with another config, scheduler config or weights.
fn load(config: &Value, scheduler: &[u8], weights: Vec<u8>) -> Result<UnetDenoiser, LoadError> {
    let config = config.to_string().into_bytes();
    let folder = ModelFolder::from_bytes("case", config, scheduler, weights)?;
    UnetDenoiser::load(&folder, Device::Cpu)
}

fn network(case: &str) -> UnetDenoiser {
    load(&config(case), SCHEDULER, bytes(case, WEIGHTS)).unwrap()
}

/// The message of loading what should not load.
fn refused(config: &Value, scheduler: &[u8], weights: Vec<u8>) -> String {
    load(config, scheduler, weights)
        .err()
        .expect("a refusal")
        .to_string()
}

/// Inputs and outputs that diffusers gave.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn open(path: &Path) -> Self {
        Self(candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap())
    }

    fn numbers(&self, key: &str) -> Vec<f32> {
        self.0[key].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn batch(&self, key: &str) -> Batch {
        Batch::new(self.numbers(key), self.0["t"].dims()[0])
    }

    fn labels(&self) -> Option<Vec<u32>> {
        Some(self.0.get("labels")?.to_vec1().unwrap())
    }
}

/// Relative distance of a network's outputs from diffusers'.
fn distance(network: &UnetDenoiser, golden: &Golden) -> f64 {
    let (labels, timesteps) = (golden.labels(), golden.numbers("t"));
    let (mut square, mut norm) = (0.0, 0.0);
    for (i, (x, expected)) in golden
        .batch("x")
        .iter()
        .zip(&golden.batch("out"))
        .enumerate()
    {
        let label = labels.as_ref().map_or(u32::MAX, |labels| labels[i]);
        let conditioning = if label < network.classes() {
            Conditioning::Classes(vec![label])
        } else {
            Conditioning::None
        };
        let x = Batch::new(x.to_vec(), 1);
        let out = network
            .predict(&x, &[f64::from(timesteps[i])], &conditioning)
            .unwrap();
        for (&a, &b) in out.data().iter().zip(expected) {
            square += f64::from(a - b) * f64::from(a - b);
            norm += f64::from(b) * f64::from(b);
        }
    }
    (square / norm).sqrt()
}

#[test]
fn networks_agree_with_diffusers() {
    for case in ["plain", "ddpm", "classes", "scale-shift", "no-middle"] {
        let golden = Golden::open(&golden(case).join("golden.safetensors"));
        let error = distance(&network(case), &golden);
        assert!(error < TOLERANCE, "{case}: {error:e} off");
    }
}

#[test]
fn a_sample_is_the_same_alone_and_in_company_on_any_number_of_threads() {
    let network = network("classes");
    let golden = Golden::open(&golden("classes").join("golden.safetensors"));
    let x = golden.batch("x");
    let data: Vec<f32> = x.data().repeat(3);
    let company = Batch::new(data, 3 * x.samples());
    let level = Level {
        timestep: 321.5,
        alpha: 0.8,
        sigma: 0.6,
    };
    let run = |batch: &Batch, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| network.denoise(batch, &level, &Conditioning::None))
            .unwrap()
    };
    let alone: Vec<Batch> = x
        .iter()
        .map(|x| run(&Batch::new(x.to_vec(), 1), 1))
        .collect();
    for threads in [1, 2, 5] {
        for (i, out) in run(&company, threads).iter().enumerate() {
            assert_eq!(
                out,
                alone[i % x.samples()].data(),
                "{threads} threads, sample {i}"
            );
        }
    }
}

#[test]
fn every_prediction_becomes_the_clean_image() {
    let x = Batch::new(vec![0.5; 240], 1);
    let level = Level {
        timestep: 100.0,
        alpha: 0.8,
        sigma: 0.6,
    };
    let clean = |prediction: &str| {
        let scheduler = json!({"_class_name": "DDIMScheduler", "prediction_type": prediction});
        let scheduler = scheduler.to_string();
        load(
            &config("plain"),
            scheduler.as_bytes(),
            bytes("plain", WEIGHTS),
        )
        .unwrap()
        .denoise(&x, &level, &Conditioning::None)
        .unwrap()
    };
    let out = clean("sample");
    for (prediction, of_x, of_out) in [
        ("epsilon", 1.25, -0.75),
        ("v_prediction", 0.8, -0.6),
        // noise - x_0; on a flow model's own levels alpha + sigma is 1
        ("flow_prediction", 1.0 / 1.4, -0.6 / 1.4),
    ] {
        for (&clean, &out) in clean(prediction).data().iter().zip(out.data()) {
            let expected = of_x * 0.5 + of_out * f64::from(out);
            assert!((f64::from(clean) - expected).abs() < 1e-6, "{prediction}");
        }
    }
}

#[test]
fn configs_are_refused_by_the_name_of_the_field() {
    for (field, value) in [
        ("_class_name", json!("UNet2DConditionModel")),
        ("surprise", json!(1)),
        ("sample_size", json!(null)),
        ("sample_size", json!([13, 20])),
        ("in_channels", json!(-1)),
        ("out_channels", json!(2)),
        ("time_embedding_type", json!("fourier")),
        (
            "down_block_types",
            json!(["SkipDownBlock2D", "DownBlock2D"]),
        ),
        ("up_block_types", json!(["UpBlock2D"])),
        ("mid_block_type", json!("Other")),
        ("downsample_padding", json!(2)),
        ("downsample_type", json!("resnet")),
        ("upsample_type", json!("resnet")),
        ("act_fn", json!("gelu")),
        ("norm_num_groups", json!(3)),
        ("norm_num_groups", json!(null)),
        ("resnet_time_scale_shift", json!("spatial")),
        ("class_embed_type", json!("timestep")),
        ("block_out_channels", json!([])),
        ("layers_per_block", json!(0)),
        ("num_class_embeds", json!(0)),
    ] {
        let mut config = config("plain");
        config[field] = value.clone();
        let message = refused(&config, SCHEDULER, bytes("plain", WEIGHTS));
        assert!(message.contains(field), "{field} = {value}: {message}");
    }
    let mut config = config("ddpm");
    config["attention_head_dim"] = json!(3);
    let message = refused(&config, SCHEDULER, bytes("ddpm", WEIGHTS));
    assert!(message.contains("attention_head_dim"), "{message}");
}

#[test]
fn old_configs_are_read_with_the_defaults_of_what_they_lack() {
    // google/ddpm-cifar10-32, saved by diffusers 0.0.4.
    let config = json!({
        "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu",
        "attention_head_dim": null, "block_out_channels": [128, 256, 256, 256],
        "center_input_sample": false,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3,
        "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-6,
        "norm_num_groups": 32, "out_channels": 3, "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    });
    let config = Unet2dConfig::parse(config.to_string().as_bytes()).unwrap();
    assert_eq!(config.sample_size, [32, 32]);
    assert_eq!(config.time_embed_dim, 512);
    assert_eq!(config.down_attention, [false, true, false, false]);
    assert_eq!(config.up_attention, [false, false, true, false]);
    assert_eq!(config.attention_head_dim, None);
    assert_eq!(config.mid_block.unwrap().attention_groups, Some(32));
}

#[test]
fn a_scheduler_that_predicts_something_unknown_is_refused() {
    let scheduler = br#"{"_class_name": "DDIMScheduler", "prediction_type": "score"}"#;
    let message = refused(&config("plain"), scheduler, bytes("plain", WEIGHTS));
    assert!(message.contains("prediction_type"), "{message}");
    let before_the_field = br#"{"_class_name": "DDPMScheduler"}"#;
    assert!(load(&config("plain"), before_the_field, bytes("plain", WEIGHTS)).is_ok());
}

/// The weights of a case with other tensors.
fn altered(case: &str, alter: impl FnOnce(&mut HashMap<String, Tensor>)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(WEIGHTS);
    let cpu = candle_core::Device::Cpu;
    let mut tensors = candle_core::safetensors::load_buffer(&bytes(case, WEIGHTS), &cpu).unwrap();
    alter(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn weights_that_do_not_fit_are_refused_by_key() {
    let plain = config("plain");
    let tensor = |value: f64| Tensor::new(&[value], &candle_core::Device::Cpu).unwrap();
    let missing = altered("plain", |tensors| {
        tensors.remove("mid_block.resnets.1.conv2.bias");
    });
    let message = refused(&plain, SCHEDULER, missing);
    assert!(
        message.contains("lack `mid_block.resnets.1.conv2.bias`"),
        "{message}"
    );

    let extra = altered("plain", |tensors| {
        tensors.insert("ema.decay".to_owned(), tensor(0.5));
    });
    let message = refused(&plain, SCHEDULER, extra);
    assert!(message.contains("`ema.decay`"), "{message}");

    let shape = altered("plain", |tensors| {
        tensors.insert("conv_out.bias".to_owned(), tensor(0.5).repeat(7).unwrap());
    });
    let message = refused(&plain, SCHEDULER, shape);
    assert!(
        message.contains("`conv_out.bias` has shape [7]"),
        "{message}"
    );

    let double = altered("plain", |tensors| {
        tensors.insert("conv_out.bias".to_owned(), tensor(0.5));
    });
    let message = refused(&plain, SCHEDULER, double);
    assert!(message.contains("stored as F64"), "{message}");
}

#[test]
fn broken_weights_are_refused() {
    let whole = bytes("plain", WEIGHTS);
    let mut hostile = whole.clone();
    hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long_header = whole.clone();
    long_header[..8].copy_from_slice(&(whole.len() as u64).to_le_bytes());
    for (broken, sign) in [
        (whole[..whole.len() / 2].to_vec(), "no safetensors file"),
        (whole[..5].to_vec(), "5 bytes"),
        (Vec::new(), "0 bytes"),
        (hostile, "header claims"),
        (long_header, "header claims"),
        (
            b"PK\x03\x04 not a safetensors file".to_vec(),
            "header claims",
        ),
    ] {
        let message = refused(&config("plain"), SCHEDULER, broken);
        assert!(message.contains(sign), "{sign}: {message}");
    }
}

/// A models root with one pipeline folder `good`.
fn root() -> (tempfile::TempDir, ModelsRoot) {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    fs::create_dir_all(good.join("unet")).unwrap();
    fs::create_dir_all(good.join("scheduler")).unwrap();
    for file in ["config.json", WEIGHTS] {
        fs::write(good.join("unet").join(file), bytes("plain", file)).unwrap();
    }
    fs::write(good.join("scheduler/scheduler_config.json"), SCHEDULER).unwrap();
    let root = ModelsRoot::new(folder.path()).unwrap();
    (folder, root)
}

#[test]
fn a_folder_opens_with_its_digest() {
    let (folder, root) = root();
    let bare = folder.path().join("bare");
    fs::create_dir(&bare).unwrap();
    for file in ["config.json", WEIGHTS] {
        fs::copy(golden("plain").join(file), bare.join(file)).unwrap();
    }
    fs::write(bare.join("scheduler_config.json"), SCHEDULER).unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(root.list().unwrap(), ["bare", "good"]);
    let (good, bare) = (root.open("good").unwrap(), root.open("bare").unwrap());
    let digest = |folder| root.digest(folder).unwrap();
    assert_eq!(digest(&good).len(), 64);
    assert_eq!(digest(&good), digest(&bare));
    let network = UnetDenoiser::load(&good, Device::Cpu).unwrap();
    assert_eq!(network.shape(), [1, 12, 20]);
    assert_eq!(network.classes(), 0);
}

#[test]
fn names_and_links_stay_inside_the_root() {
    let (folder, root) = root();
    for name in [
        "../good",
        "/etc",
        "..",
        ".",
        "",
        "good/unet",
        "good\\unet",
        ".hidden",
    ] {
        assert!(matches!(root.open(name), Err(LoadError::Name(_))), "{name}");
    }
    assert!(matches!(root.open("other"), Err(LoadError::NoModel(_))));
    #[cfg(unix)]
    {
        let outside = tempfile::tempdir().unwrap();
        let link = std::os::unix::fs::symlink::<&Path, PathBuf>;
        link(outside.path(), folder.path().join("link")).unwrap();
        assert!(matches!(root.open("link"), Err(LoadError::Outside(_))));
        let weights = folder.path().join("good/unet").join(WEIGHTS);
        fs::rename(&weights, outside.path().join(WEIGHTS)).unwrap();
        link(&outside.path().join(WEIGHTS), weights).unwrap();
        assert!(matches!(root.open("good"), Err(LoadError::Outside(_))));
        assert_eq!(root.list().unwrap(), ["good"]);
    }
    drop(folder);
}

#[test]
fn what_is_there_instead_of_weights_is_named() {
    for (other, sign) in [
        ("diffusion_pytorch_model.bin", "can run code"),
        ("model.safetensors", "rename `model.safetensors`"),
    ] {
        let (folder, root) = root();
        let unet = folder.path().join("good/unet");
        fs::rename(unet.join(WEIGHTS), unet.join(other)).unwrap();
        let message = root.open("good").unwrap_err().to_string();
        assert!(message.contains(sign), "{other}: {message}");
    }
    let (folder, root) = root();
    fs::remove_dir_all(folder.path().join("good/scheduler")).unwrap();
    let message = root.open("good").unwrap_err().to_string();
    assert!(message.contains("scheduler_config.json"), "{message}");
}

#[test]
fn batches_and_labels_that_do_not_fit_are_refused() {
    let network = network("classes");
    let call = |size: usize, samples: usize, conditioning: Conditioning| {
        let x = Batch::new(vec![0.0; size * samples], samples);
        network
            .denoise(&x, &Level::CLEAN, &conditioning)
            .unwrap_err()
    };
    let size = 3 * 20 * 12;
    let error = call(size + 1, 2, Conditioning::None);
    assert!(matches!(error, DenoiserError::Shape { found, .. } if found == size + 1));
    let error = call(size, 2, Conditioning::Classes(vec![1]));
    assert!(matches!(
        error,
        DenoiserError::LabelCount {
            samples: 2,
            found: 1
        }
    ));
    let error = call(size, 2, Conditioning::Classes(vec![0, 3]));
    assert!(matches!(
        error,
        DenoiserError::Label {
            label: 3,
            classes: 3
        }
    ));
    assert_eq!(network.classes(), 3);
}

#[test]
fn devices_go_by_name() {
    for name in ["cpu", "cuda:0", "cuda:3", "metal:1"] {
        assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
    }
    assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
    for name in ["", "cpu:0", "gpu", "cuda:", "cuda:-1", "tpu:0"] {
        assert!(
            matches!(name.parse::<Device>(), Err(LoadError::UnknownDevice(_))),
            "{name}"
        );
    }
    if cfg!(not(feature = "cuda")) {
        let weights = bytes("plain", WEIGHTS);
        let config = bytes("plain", "config.json");
        let folder = ModelFolder::from_bytes("case", config, SCHEDULER, weights).unwrap();
        let error = UnetDenoiser::load(&folder, Device::Cuda(0)).err().unwrap();
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}

#[test]
fn the_demo_answers_as_pytorch_does() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let folder = ModelsRoot::new(demo)
        .unwrap()
        .open("fashion-mnist")
        .unwrap();
    let demo = UnetDenoiser::load(&folder, Device::Cpu).unwrap();
    let WeightsFile::Path(weights) = &folder.network.weights[0] else {
        panic!("a file");
    };
    assert!(fs::metadata(weights).unwrap().len() <= 4 << 20);
    let error = distance(&demo, &Golden::open(&golden("fashion-mnist.safetensors")));
    assert!(error < TOLERANCE, "{error:e} off");
}

#[test]
fn a_digest_is_of_all_that_answers_depend_on() {
    let folder = |config: &Value, prediction: &str| {
        let scheduler = json!({"_class_name": "DDIMScheduler", "prediction_type": prediction});
        let config = config.to_string().into_bytes();
        let weights = bytes("plain", WEIGHTS);
        let scheduler = scheduler.to_string();
        ModelFolder::from_bytes("case", config, scheduler.as_bytes(), weights)
            .and_then(|folder| folder.digest(&Digests::default()))
            .unwrap()
    };
    let mut other = config("plain");
    other["norm_eps"] = json!(1e-3);
    let plain = folder(&config("plain"), "epsilon");
    assert_ne!(plain, folder(&config("plain"), "v_prediction"));
    assert_ne!(plain, folder(&other, "epsilon"));
}

#[test]
fn noise_that_a_prediction_does_not_go_with_is_refused() {
    for scheduler in [
        json!({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, "sigma_max": 80.0, "prediction_type": "epsilon"}),
        json!({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true, "prediction_type": "epsilon"}),
    ] {
        let scheduler = scheduler.to_string();
        let refused = refused(
            &config("plain"),
            scheduler.as_bytes(),
            bytes("plain", WEIGHTS),
        );
        assert!(refused.contains("prediction_type"), "{refused}");
    }
}
