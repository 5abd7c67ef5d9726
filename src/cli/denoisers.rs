//! The flags that say which denoisers are at hand and where they run.

use crate::denoiser::{Device, Models};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Debug, Args)]
pub struct DenoiserArgs {
    /// A folder of diffusers model folders; a model is named by its folder.
    #[arg(long, env = "FEWSTEP_MODELS_ROOT", value_name = "FOLDER")]
    models_root: Option<PathBuf>,
    /// Where denoisers run: cpu, cuda, cuda:1, metal.
    #[arg(long, env = "FEWSTEP_DEVICE", default_value_t)]
    device: Device,
}

impl DenoiserArgs {
    pub fn models(&self) -> anyhow::Result<Arc<Models>> {
        Ok(Arc::new(Models::new(
            self.models_root.as_deref(),
            self.device,
        )?))
    }
}
