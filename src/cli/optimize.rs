//! `fewstep optimize`: one schedule, offline, as JSON (the service's own object), a table or plain text.

use super::denoisers::DenoiserArgs;
use super::progress::ProgressLine;
use super::request::RequestArgs;
use super::table;
use crate::api::ScheduleDocument;
use crate::optimize::optimize;
use clap::{Args, ValueEnum};
use std::io::{IsTerminal, Write};
use std::sync::atomic::AtomicBool;

#[derive(Debug, Args)]
pub struct OptimizeArgs {
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    denoisers: DenoiserArgs,
    /// Output; by default a table on a terminal and JSON elsewhere.
    #[arg(long, env = "FEWSTEP_FORMAT")]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The schedule object of the HTTP API.
    Json,
    /// Points and baselines for people.
    Table,
    /// Three lines, `timesteps`, `sigmas` and `t`, as fixed-point numbers to paste.
    Text,
}

pub fn run(args: &OptimizeArgs) -> anyhow::Result<()> {
    let models = args.denoisers.models()?;
    let effective = args.request.effective(&models)?;
    let mut line = ProgressLine::start();
    let never = AtomicBool::new(false);
    let document = optimize(&effective, &models, &never, &mut |progress| {
        line.update(progress);
    })?;
    drop(line);
    let mut out = std::io::stdout().lock();
    let default = if out.is_terminal() {
        Format::Table
    } else {
        Format::Json
    };
    match args.format.unwrap_or(default) {
        Format::Json => writeln!(out, "{}", serde_json::to_string(&document)?)?,
        Format::Table => write!(out, "{}", as_table(&document))?,
        Format::Text => write!(out, "{}", as_text(&document))?,
    }
    if args.format != Some(Format::Json) {
        for warning in &document.warnings {
            eprintln!("warning: {}: {}", warning.code, warning.detail);
        }
    }
    Ok(())
}

fn as_table(document: &ScheduleDocument) -> String {
    let points: Vec<Vec<String>> = document
        .sigmas
        .iter()
        .enumerate()
        .map(|(i, &sigma)| {
            vec![
                i.to_string(),
                table::number(document.timesteps.get(i).copied(), 3),
                table::number(document.t[i], 6),
                table::number(Some(sigma), 6),
                table::number(document.lambdas[i], 6),
            ]
        })
        .collect();
    let points = table::render(&["point", "timestep", "t", "sigma", "lambda"], &points);
    let subject = format!(
        "{} {} NFE {}",
        document.model,
        document.solver.label(),
        document.nfe.get()
    );
    match (&document.error, &document.calibration) {
        (Some(error), Some(calibration)) => format!(
            "{subject}: error {:.5} +- {:.5} on {} unseen samples\n\n{points}\neverything measured, best first\n\n{}",
            error.value,
            error.stderr,
            error.samples,
            table::measured(&calibration.candidates),
        ),
        _ => format!(
            "{subject}: MEP {:.6}, penalty {:.6}\n\n{points}\nrules by the same proxy (matched: between the same ends)\n\n{}",
            document.fitness.mep,
            document.fitness.penalty,
            baselines(document),
        ),
    }
}

fn baselines(document: &ScheduleDocument) -> String {
    let rows: Vec<Vec<String>> = document
        .baselines
        .iter()
        .map(|baseline| {
            vec![
                baseline.name.clone(),
                table::number(baseline.mep_matched, 4),
                table::number(baseline.mep_native, 4),
            ]
        })
        .collect();
    table::render(&["rule", "matched", "native"], &rows)
}

fn as_text(document: &ScheduleDocument) -> String {
    let list = |values: &[f64]| {
        let numbers: Vec<String> = values.iter().map(|value| format!("{value:.8}")).collect();
        numbers.join(", ")
    };
    let t: Vec<f64> = document.t.iter().copied().flatten().collect();
    format!(
        "timesteps: {}\nsigmas: {}\nt: {}\n",
        list(&document.timesteps),
        list(&document.sigmas),
        list(&t)
    )
}
