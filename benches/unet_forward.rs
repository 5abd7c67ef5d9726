//! A forward pass of diffusers' networks against `PyTorch`: the same folder, batch and threads, in turns, least seconds of each.
//!
//! `cargo bench --bench unet_forward -- [<folder with config.json and weights> ...]`; needs `python3` (or `PYTHON`) with torch
//! and diffusers. Without a folder it makes three networks: `UNet2DModel`s of 1.7 million parameters at 16 pixels and 6 million at 32,
//! and a `UNet2DConditionModel` of 57 million at 32.

use fewstep::denoiser::{
    Batch, ConditionedUnet, Conditioning, Conditions, Denoiser as _, DenoiserError, Device,
    ModelFolder, NetworkFiles, Placement, UnetDenoiser, WeightsFile,
};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SCHEDULER: &[u8] = br#"{"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}"#;
const SECONDS_A_ROW: f64 = 6.0;
/// Passes of each side at least, however long they take.
const LEAST_PASSES: usize = 3;
/// Tokens of a prompt.
const TOKENS: usize = 77;

/// Writes the networks that are timed where no folder is given.
const MAKE: &str = "
import sys
from diffusers import UNet2DConditionModel, UNet2DModel
down = ('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D')
up = ('UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D')
for name, size, channels, layers in [('16px', 16, (32, 64, 96), 1), ('32px', 32, (64, 96, 128), 2)]:
    UNet2DModel(sample_size=size, in_channels=1, out_channels=1, block_out_channels=channels, layers_per_block=layers,
                down_block_types=down, up_block_types=up, norm_num_groups=8, attention_head_dim=32,
                num_class_embeds=11).save_pretrained(f'{sys.argv[1]}/{name}')
down = ('CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D')
up = ('UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D')
UNet2DConditionModel(sample_size=32, block_out_channels=(112, 224, 448), norm_num_groups=16, cross_attention_dim=768,
                     attention_head_dim=8, down_block_types=down, up_block_types=up
                     ).save_pretrained(f'{sys.argv[1]}/prompted-32px')
";

fn main() -> Result<()> {
    let mut folders: Vec<PathBuf> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let made = tempfile::tempdir()?;
    if folders.is_empty() {
        let status = Command::new(python())
            .args(["-c", MAKE])
            .arg(made.path())
            .status()?;
        assert!(status.success(), "the networks could not be made");
        folders = ["16px", "32px", "prompted-32px"]
            .map(|name| made.path().join(name))
            .to_vec();
    }
    let mut torch = Torch::start()?;
    println!(
        "{:>14} {:>7} {:>6} {:>12} {:>12} {:>7}",
        "network", "threads", "batch", "torch ms", "fewstep ms", "ratio"
    );
    for folder in folders {
        let network = Network::load(&folder)?;
        for threads in [1, 2] {
            for &batch in network.batches() {
                let (theirs, ours) = race(&network, &mut torch, &folder, batch, threads)?;
                println!(
                    "{:>14} {threads:>7} {batch:>6} {:>12.3} {:>12.3} {:>7.2}",
                    folder.file_name().unwrap_or_default().display(),
                    theirs * 1e3,
                    ours * 1e3,
                    ours / theirs
                );
            }
        }
    }
    Ok(())
}

fn python() -> String {
    std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

enum Network {
    Plain(Box<UnetDenoiser>),
    Prompted(Box<ConditionedUnet>),
}

impl Network {
    fn load(folder: &Path) -> Result<Self> {
        let config = std::fs::read(folder.join("config.json"))?;
        let weights = folder.join("diffusion_pytorch_model.safetensors");
        let class: serde_json::Value = serde_json::from_slice(&config)?;
        if class["_class_name"] == "UNet2DConditionModel" {
            let files = NetworkFiles {
                config,
                weights: vec![WeightsFile::Path(weights)],
            };
            let placement = Placement::from(Device::Cpu);
            let network = ConditionedUnet::load(&files, placement)?;
            return Ok(Self::Prompted(Box::new(network)));
        }
        let weights = std::fs::read(weights)?;
        let folder = ModelFolder::from_bytes("bench", config, SCHEDULER, weights)?;
        let network = UnetDenoiser::load(&folder, Device::Cpu)?;
        Ok(Self::Plain(Box::new(network)))
    }

    fn batches(&self) -> &'static [usize] {
        match self {
            Self::Plain(_) => &[1, 8, 64],
            Self::Prompted(_) => &[1, 8],
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Plain(network) => network.shape(),
            Self::Prompted(network) => network.shape(),
        }
    }

    /// One pass over a batch.
    fn pass(&self, x: &Batch) -> std::result::Result<Batch, DenoiserError> {
        let timesteps = vec![500.0; x.samples()];
        match self {
            Self::Plain(network) => {
                let labels = (0..x.samples() as u32).map(|i| i % network.classes().max(1));
                let conditioning = match network.classes() {
                    0 => Conditioning::None,
                    _ => Conditioning::Classes(labels.collect()),
                };
                network.predict(x, &timesteps, &conditioning)
            }
            Self::Prompted(network) => {
                let numbers = network.config().cross_attention_dim() * TOKENS * x.samples();
                let conditions = Conditions {
                    context: waves(numbers, x.samples()),
                    pooled: None,
                    labels: None,
                };
                network.predict(x, &timesteps, &conditions, [0, 0])
            }
        }
    }
}

fn waves(numbers: usize, samples: usize) -> Batch {
    let waves = (0..numbers).map(|i| libm::sin(i as f64) as f32);
    Batch::new(waves.collect(), samples)
}

/// Least seconds of their pass and of ours, in turns.
fn race(
    network: &Network,
    torch: &mut Torch,
    folder: &Path,
    batch: usize,
    threads: usize,
) -> Result<(f64, f64)> {
    let size: usize = network.shape().iter().product();
    let x = waves(batch * size, batch);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let (mut theirs, mut ours) = (f64::INFINITY, f64::INFINITY);
    let begun = Instant::now();
    for pass in 0.. {
        if pass >= LEAST_PASSES && begun.elapsed().as_secs_f64() >= SECONDS_A_ROW {
            break;
        }
        theirs = theirs.min(torch.seconds(folder, batch, threads)?);
        let started = Instant::now();
        pool.install(|| network.pass(&x))?;
        ours = ours.min(started.elapsed().as_secs_f64());
    }
    Ok((theirs, ours))
}

/// The other side.
struct Torch {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Torch {
    fn start() -> Result<Self> {
        let mut process = Command::new(python())
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/reference/unet_torch.py"
            ))
            // Threads that spin while they wait lose more than they gain on a machine that is not idle.
            .env("OMP_WAIT_POLICY", "PASSIVE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = process.stdin.take().ok_or("no pipe to python")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no pipe from python")?);
        Ok(Self {
            process,
            questions,
            answers,
        })
    }

    fn seconds(&mut self, folder: &Path, batch: usize, threads: usize) -> Result<f64> {
        writeln!(self.questions, "{} {batch} {threads}", folder.display())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line
            .trim()
            .parse()
            .map_err(|_| "the PyTorch side gave no time")?)
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
