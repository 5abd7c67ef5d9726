//! `fewstep models`: the built-in families and the folders under the models root, with their noise.

use super::denoisers::DenoiserArgs;
use super::table::{self, TableOrJson};
use crate::api::ModelInfo;
use crate::denoiser::Models;
use crate::optimize::{noise_of, with_denoiser};
use crate::schedule::families;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(flatten)]
    denoisers: DenoiserArgs,
    #[arg(long, env = "FEWSTEP_FORMAT", default_value = "table")]
    format: TableOrJson,
}

pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let models = known(&*args.denoisers.models()?)?;
    let mut out = std::io::stdout().lock();
    match args.format {
        TableOrJson::Json => writeln!(out, "{}", serde_json::to_string(&models)?)?,
        TableOrJson::Table => {
            let rows: Vec<Vec<String>> = models.iter().map(row).collect();
            write!(
                out,
                "{}",
                table::render(
                    &[
                        "model",
                        "noise",
                        "sigmas",
                        "distilled for",
                        "denoiser",
                        "title"
                    ],
                    &rows
                )
            )?;
        }
    }
    Ok(())
}

/// Every model, with whether its denoiser is at hand. A folder that is unusable is an error here, where its owner looks.
fn known(denoisers: &Models) -> anyhow::Result<Vec<ModelInfo>> {
    let mut models: Vec<ModelInfo> = families::all().map(ModelInfo::of_family).collect();
    for name in denoisers.list()? {
        let Some(description) = denoisers.describe(&name)? else {
            continue;
        };
        if let Some(model) = models.iter_mut().find(|model| model.id == name) {
            *model = with_denoiser(model.clone(), &description);
        } else if let Some(noise) = noise_of(&description)? {
            let model = ModelInfo::of_folder(&name, &noise, description.prediction)?;
            models.push(with_denoiser(model, &description));
        }
    }
    Ok(models)
}

/// Where a denoiser runs, and the memory it takes there.
fn denoiser(model: &ModelInfo) -> String {
    match &model.runtime {
        Some(runtime) => {
            let mebibytes = runtime.memory_bytes as f64 / f64::from(1 << 20);
            format!("{} {}, {mebibytes:.0} MiB", runtime.device, runtime.dtype)
        }
        None if model.denoiser => "exact".to_owned(),
        None => "-".to_owned(),
    }
}

fn row(model: &ModelInfo) -> Vec<String> {
    let kind = serde_json::to_value(model.noise.kind)
        .ok()
        .and_then(|kind| kind.as_str().map(str::to_owned));
    let distilled = model.distilled_nfe.as_ref().map(|nfes| {
        let numbers: Vec<String> = nfes.iter().map(ToString::to_string).collect();
        numbers.join(", ")
    });
    vec![
        model.id.clone(),
        kind.unwrap_or_default(),
        format!("{:.4} .. {:.4}", model.sigma_range[0], model.sigma_range[1]),
        distilled.unwrap_or_else(|| "-".to_owned()),
        denoiser(model),
        model.title.clone().unwrap_or_default(),
    ]
}
