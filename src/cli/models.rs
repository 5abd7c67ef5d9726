//! `fewstep models`: the built-in families and the folders under the models root, with their noise.

use super::denoisers::DenoiserArgs;
use super::table::{self, TableOrJson};
use crate::api::ModelInfo;
use crate::denoiser::Models;
use crate::optimize::noise_of;
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
        if let Some(model) = models.iter_mut().find(|model| model.id == name) {
            model.denoiser = true;
            continue;
        }
        let Some(description) = denoisers.describe(&name)? else {
            continue;
        };
        if let Some(noise) = noise_of(&description)? {
            models.push(ModelInfo::of_folder(&name, &noise, description.prediction)?);
        }
    }
    Ok(models)
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
        if model.denoiser { "yes" } else { "-" }.to_owned(),
        model.title.clone().unwrap_or_default(),
    ]
}
