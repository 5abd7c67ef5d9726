//! How much of a device's memory models need, and how much of it there is for them.

use super::files::PipelineFiles;
use super::unet2d::Unet2dConfig;
use super::unet2d_condition::Unet2dConditionConfig;
use super::weights;
use super::{Device, LoadError, ModelFolder, Placement};
use std::fs;

/// Bytes of a number in f32.
const SINGLE: u64 = 4;
/// Share of a device's memory that networks may take where no figure is given.
const SHARE: f64 = 0.8;
/// Activations at a time, in those of the widest layer: a gated feed-forward layer has eight times its width.
const WIDEST: usize = 16;
/// Samples in one pass of each kind of network.
const PASS: usize = 8;

/// A network's weights and what its passes take besides.
pub(super) fn of_network(folder: &ModelFolder, placement: Placement) -> Result<u64, LoadError> {
    let numbers = weights::count(&folder.network.weights)?;
    let activations = if folder.pipeline.is_some() {
        let config = Unet2dConditionConfig::parse(&folder.network.config)
            .map_err(LoadError::of_part("unet"))?;
        let levels: Vec<usize> = config.levels.iter().map(|level| level.channels).collect();
        activations(config.sample_size, &levels)
    } else {
        let config = Unet2dConfig::parse(&folder.network.config)?;
        activations(config.sample_size, &config.block_out_channels)
    };
    Ok((numbers + (PASS * activations) as u64) * placement.precision.bytes())
}

/// A pipeline's text encoders, which are there while prompts are encoded.
pub(super) fn of_text(pipeline: &PipelineFiles) -> Result<u64, LoadError> {
    let mut numbers = 0;
    for text in &pipeline.text {
        numbers += weights::count(&text.encoder.weights)?;
    }
    Ok(numbers * SINGLE)
}

/// Numbers that a sample's pass has in memory at its widest: what the way down keeps for the way up, and the layer at work.
fn activations(size: [usize; 2], channels: &[usize]) -> usize {
    let planes = channels
        .iter()
        .enumerate()
        .map(|(level, channels)| channels * (size[0] >> level) * (size[1] >> level));
    let kept: usize = planes.clone().map(|plane| 3 * plane).sum();
    kept + WIDEST * planes.max().unwrap_or(0)
}

/// Bytes that networks may take on a device where no figure is given.
pub(super) fn budget(device: Device) -> u64 {
    (SHARE * total(device) as f64) as u64
}

/// Bytes of a device's memory.
fn total(device: Device) -> u64 {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => candle_core::cuda_backend::cudarc::driver::result::mem_get_info()
            .map_or(u64::MAX, |(free, _)| free as u64),
        _ => host(),
    }
}

/// Memory of the machine, or what the process may use of it.
fn host() -> u64 {
    let limit = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let installed = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes << 10)
    });
    [
        installed,
        limit("/sys/fs/cgroup/memory.max"),
        limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ]
    .into_iter()
    .flatten()
    .min()
    .unwrap_or(u64::MAX)
}
