//! `fewstep models`: the built-in families with their noise and sources.

use super::table::{self, TableOrJson};
use crate::api::ModelInfo;
use crate::schedule::families;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[arg(long, env = "FEWSTEP_FORMAT", default_value = "table")]
    format: TableOrJson,
}

pub fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let models: Vec<ModelInfo> = families::all().map(ModelInfo::of_family).collect();
    let mut out = std::io::stdout().lock();
    match args.format {
        TableOrJson::Json => writeln!(out, "{}", serde_json::to_string(&models)?)?,
        TableOrJson::Table => {
            let rows: Vec<Vec<String>> = models.iter().map(row).collect();
            write!(
                out,
                "{}",
                table::render(
                    &["model", "noise", "sigmas", "distilled for", "title"],
                    &rows
                )
            )?;
        }
    }
    Ok(())
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
        model.title.clone().unwrap_or_default(),
    ]
}
