//! The `fewstep` binary: parses the command line and calls [`fewstep::cli`].

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    fewstep::cli::run(fewstep::cli::Cli::parse())
}
