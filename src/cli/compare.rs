//! `fewstep compare`: the optimised schedule and the rules under one proxy, or measured on the model; a table, JSON or a picture.

use super::denoisers::DenoiserArgs;
use super::progress::ProgressLine;
use super::request::RequestArgs;
use super::table;
use crate::api::{Comparison, GivenSigmas, Invalid};
use crate::optimize::compare::{compare, given_lambdas};
use crate::plot;
use clap::{Args, ValueEnum};
use std::io::Write;
use std::sync::atomic::AtomicBool;

#[derive(Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    denoisers: DenoiserArgs,
    /// A schedule of your own to put beside them, NAME=SIGMA,SIGMA,...; can be given again.
    #[arg(long, value_name = "NAME=SIGMAS")]
    given: Vec<Given>,
    #[arg(long, env = "FEWSTEP_FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
    /// A picture to look at in a browser.
    Svg,
    /// What the schedules do to pictures, side by side, to look at in a browser; needs --pictures.
    Pictures,
}

/// One `NAME=SIGMAS`.
#[derive(Clone, Debug)]
struct Given(GivenSigmas);

impl std::str::FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "write NAME=SIGMA,SIGMA,... with falling noise levels".to_owned();
        let (name, sigmas) = text.split_once('=').ok_or_else(expected)?;
        let sigmas = sigmas.split(',').map(|sigma| sigma.trim().parse());
        Ok(Self(GivenSigmas {
            name: name.to_owned(),
            sigmas: sigmas.collect::<Result<_, _>>().map_err(|_| expected())?,
        }))
    }
}

pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let models = args.denoisers.models()?;
    let effective = args.request.effective(&models)?;
    let lists: Vec<&GivenSigmas> = args.given.iter().map(|given| &given.0).collect();
    let given = given_lambdas(&lists, &effective).map_err(Invalid::from)?;
    let mut line = ProgressLine::start();
    let never = AtomicBool::new(false);
    let comparison = compare(&effective, &given, &models, &never, &mut |progress| {
        line.update(progress);
    })?;
    drop(line);
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Svg => write!(out, "{}", plot::comparison(&comparison))?,
        Format::Pictures => match plot::pictures(&comparison.schedule) {
            Some(svg) => write!(out, "{svg}")?,
            None => {
                anyhow::bail!("there are no pictures: ask for some with --calibrate --pictures 4")
            }
        },
        Format::Json => writeln!(out, "{}", serde_json::to_string(&comparison)?)?,
        Format::Table => match &comparison.schedule.calibration {
            Some(calibration) => {
                write!(out, "{}", table::measured(&calibration.candidates))?;
            }
            None => write!(out, "{}", scored(comparison))?,
        },
    }
    Ok(())
}

/// Rows under the proxy, best first.
fn scored(mut comparison: Comparison) -> String {
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
                row.sigmas
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), table::levels),
            ]
        })
        .collect();
    let header = ["schedule", "matched", "native", "smallest gap", "sigmas"];
    table::render(&header, &rows)
}
