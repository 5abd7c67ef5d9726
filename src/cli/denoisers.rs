//! The flags that say which denoisers are at hand and where they run.

use crate::denoiser::{Device, Models, Placement, Precision};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

const GIBIBYTE: f64 = 1_073_741_824.0;

#[derive(Clone, Debug, Args)]
pub struct DenoiserArgs {
    /// A folder of diffusers model folders; a model is named by its folder.
    #[arg(long, env = "FEWSTEP_MODELS_ROOT", value_name = "FOLDER")]
    models_root: Option<PathBuf>,
    /// Where denoisers run: cpu, cuda, cuda:1, metal.
    #[arg(long, env = "FEWSTEP_DEVICE", default_value_t)]
    device: Device,
    /// Numbers networks compute with: f32, f16, bf16 [default: f32 on a CPU, f16 on a GPU].
    #[arg(long, env = "FEWSTEP_PRECISION")]
    precision: Option<Precision>,
    /// GiB of the device's memory that networks may take together [default: 80 % of it].
    #[arg(long, env = "FEWSTEP_DEVICE_MEMORY", value_name = "GIB")]
    device_memory: Option<f64>,
}

impl DenoiserArgs {
    pub fn models(&self) -> anyhow::Result<Arc<Models>> {
        let placement = Placement::from(self.device);
        Ok(Arc::new(Models::new(
            self.models_root.as_deref(),
            Placement {
                precision: self.precision.unwrap_or(placement.precision),
                ..placement
            },
            self.device_memory
                .map(|gibibytes| (gibibytes * GIBIBYTE) as u64),
        )?))
    }
}
