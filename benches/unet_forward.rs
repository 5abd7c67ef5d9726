//! A forward pass of `UNet2DModel` against `PyTorch`: the same folder, batch and threads, in turns, least seconds of each.
//!
//! `cargo bench --bench unet_forward -- [<folder with config.json and weights> ...]`; needs `python3` (or `PYTHON`) with torch
//! and diffusers. Without a folder it makes two networks: 1.7 million parameters at 16 pixels, 6 million at 32.

use fewstep::denoiser::{Batch, Conditioning, Denoiser as _, Device, ModelFolder, UnetDenoiser};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

const SCHEDULER: &[u8] = br#"{"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}"#;
const SECONDS_A_ROW: f64 = 6.0;

/// Writes the networks that are timed where no folder is given.
const MAKE: &str = "
import sys
from diffusers import UNet2DModel
down = ('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D')
up = ('UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D')
for name, size, channels, layers in [('16px', 16, (32, 64, 96), 1), ('32px', 32, (64, 96, 128), 2)]:
    UNet2DModel(sample_size=size, in_channels=1, out_channels=1, block_out_channels=channels, layers_per_block=layers,
                down_block_types=down, up_block_types=up, norm_num_groups=8, attention_head_dim=32,
                num_class_embeds=11).save_pretrained(f'{sys.argv[1]}/{name}')
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
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
        folders = vec![made.path().join("16px"), made.path().join("32px")];
    }
    let mut torch = Torch::start()?;
    println!(
        "{:>12} {:>7} {:>6} {:>12} {:>12} {:>7}",
        "network", "threads", "batch", "torch ms", "fewstep ms", "ratio"
    );
    for folder in folders {
        let network = load(&folder)?;
        for threads in [1, 2] {
            for batch in [1, 8, 64] {
                let (theirs, ours) = race(&network, &mut torch, &folder, batch, threads)?;
                println!(
                    "{:>12} {threads:>7} {batch:>6} {:>12.3} {:>12.3} {:>7.2}",
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

fn load(folder: &Path) -> Result<UnetDenoiser, Box<dyn std::error::Error>> {
    let config = std::fs::read(folder.join("config.json"))?;
    let weights = std::fs::read(folder.join("diffusion_pytorch_model.safetensors"))?;
    let folder = ModelFolder::from_bytes("bench", config, SCHEDULER, weights)?;
    Ok(UnetDenoiser::load(&folder, Device::Cpu)?)
}

/// Least seconds of their pass and of ours, in turns.
fn race(
    network: &UnetDenoiser,
    torch: &mut Torch,
    folder: &Path,
    batch: usize,
    threads: usize,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let size: usize = network.shape().iter().product();
    let numbers = (0..batch * size).map(|i| libm::sin(i as f64) as f32);
    let x = Batch::new(numbers.collect(), batch);
    let labels = (0..batch as u32).map(|i| i % network.classes().max(1));
    let conditioning = match network.classes() {
        0 => Conditioning::None,
        _ => Conditioning::Classes(labels.collect()),
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let timesteps = vec![500.0; batch];
    let (mut theirs, mut ours) = (f64::INFINITY, f64::INFINITY);
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < SECONDS_A_ROW {
        theirs = theirs.min(torch.seconds(folder, batch, threads)?);
        let started = Instant::now();
        pool.install(|| network.predict(&x, &timesteps, &conditioning))?;
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
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
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

    fn seconds(
        &mut self,
        folder: &Path,
        batch: usize,
        threads: usize,
    ) -> Result<f64, Box<dyn std::error::Error>> {
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
