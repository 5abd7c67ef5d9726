//! `fewstep compare`: the optimised schedule and the rules under one proxy, as a table or JSON.

use super::denoisers::DenoiserArgs;
use super::progress::ProgressLine;
use super::request::RequestArgs;
use super::table::{self, TableOrJson};
use crate::optimize::compare::compare;
use clap::Args;
use std::io::Write;
use std::sync::atomic::AtomicBool;

#[derive(Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    denoisers: DenoiserArgs,
    #[arg(long, env = "FEWSTEP_FORMAT", default_value = "table")]
    format: TableOrJson,
}

pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let models = args.denoisers.models()?;
    let effective = args.request.effective(&models)?;
    let mut line = ProgressLine::start();
    let never = AtomicBool::new(false);
    let mut comparison = compare(&effective, &[], &models, &never, &mut |progress| {
        line.update(progress);
    })?;
    drop(line);
    let mut out = std::io::stdout().lock();
    match args.format {
        TableOrJson::Json => writeln!(out, "{}", serde_json::to_string(&comparison)?)?,
        TableOrJson::Table => {
            let key = |value: Option<f64>| value.unwrap_or(f64::INFINITY);
            comparison
                .rows
                .sort_by(|a, b| key(a.mep_matched).total_cmp(&key(b.mep_matched)));
            let rows: Vec<Vec<String>> = comparison
                .rows
                .iter()
                .map(|row| {
                    vec![
                        row.name.clone(),
                        table::number(row.mep_matched, 4),
                        table::number(row.mep_native, 4),
                        table::number(row.smallest_gap, 4),
                        row.sigmas.as_deref().map_or_else(|| "-".to_owned(), levels),
                    ]
                })
                .collect();
            let header = ["schedule", "matched", "native", "smallest gap", "sigmas"];
            write!(out, "{}", table::render(&header, &rows))?;
        }
    }
    Ok(())
}

fn levels(sigmas: &[f64]) -> String {
    let numbers: Vec<String> = sigmas.iter().map(|sigma| format!("{sigma:.3}")).collect();
    numbers.join(" ")
}
