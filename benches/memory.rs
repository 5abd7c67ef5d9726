//! Resident memory of a network as large as Stable Diffusion 1.5's, and of fifty jobs one after another.
//!
//! `cargo bench --bench memory -- [<folder with config.json and weights>]`; without a folder it makes one of 860 million random
//! numbers, for which `python3` (or `PYTHON`) needs torch and diffusers. Every measurement of a network is a process of its own.

use fewstep::api::resolve;
use fewstep::denoiser::{
    Batch, ConditionedUnet, Conditions, Device, Models, NetworkFiles, Placement, Precision,
    WeightsFile,
};
use fewstep::optimize::{known, optimize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MAKE: &str = "
import sys
import torch
from diffusers import UNet2DConditionModel
UNet2DConditionModel(sample_size=64, cross_attention_dim=768).to(torch.float16).save_pretrained(sys.argv[1])
";
const TOKENS: usize = 77;
const JOBS: u64 = 50;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let [folder, precision] = &arguments[..] {
        return measure(Path::new(folder), precision.parse()?);
    }
    let made = tempfile::tempdir()?;
    let folder = if let Some(folder) = arguments.first() {
        PathBuf::from(folder)
    } else {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let status = Command::new(python)
            .args(["-c", MAKE])
            .arg(made.path())
            .status()?;
        assert!(status.success(), "the network could not be made");
        made.path().to_owned()
    };
    for precision in ["f32", "f16"] {
        let child = Command::new(std::env::current_exe()?)
            .arg(&folder)
            .arg(precision)
            .status()?;
        assert!(child.success(), "{precision} failed");
    }
    jobs()
}

/// Loads a network and runs one sample through it.
fn measure(folder: &Path, precision: Precision) -> Result<()> {
    let files = NetworkFiles {
        config: std::fs::read(folder.join("config.json"))?,
        weights: vec![WeightsFile::Path(
            folder.join("diffusion_pytorch_model.safetensors"),
        )],
    };
    let placement = Placement {
        device: Device::Cpu,
        precision,
    };
    let started = Instant::now();
    let network = ConditionedUnet::load(&files, placement)?;
    let loaded = started.elapsed().as_secs_f64();
    let resident = status("VmRSS:");
    let waves = |count: usize| {
        let numbers = (0..count).map(|i| libm::sin(i as f64) as f32);
        Batch::new(numbers.collect(), 1)
    };
    let conditions = Conditions {
        context: waves(network.config().cross_attention_dim() * TOKENS),
        pooled: None,
        labels: None,
    };
    let x = waves(network.shape().iter().product());
    let started = Instant::now();
    network.predict(&x, &[500.0], &conditions, [512, 512])?;
    println!(
        "{precision}: loaded in {loaded:.1} s to {resident:.2} GiB; a pass at batch 1 in {:.1} s, peak {:.2} GiB",
        started.elapsed().as_secs_f64(),
        status("VmHWM:")
    );
    Ok(())
}

/// Calibrations of a tiny pipeline, each a request of its own.
fn jobs() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stable_diffusion");
    let models = Models::new(Some(&root), Placement::from(Device::Cpu), None)?;
    let never = AtomicBool::new(false);
    for seed in 1..=JOBS {
        let request = serde_json::from_value(json!({
            "model": "sd15", "solver": "unipc", "nfe": 4, "seed": seed,
            "calibrate": {"samples": 4, "validation_samples": 4, "budget": 20},
        }))?;
        let effective = resolve(&request, &known(&request, None, &models)?)?;
        optimize(&effective, &models, &never, &mut |_| {})?;
        if seed % 10 == 0 {
            println!("after {seed} jobs: {:.1} MiB", status("VmRSS:") * 1024.0);
        }
    }
    Ok(())
}

/// A line of this process's status, in GiB.
fn status(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kibibytes.unwrap_or(f64::NAN) / f64::from(1 << 20)
}
