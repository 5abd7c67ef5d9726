//! The command line: `serve`, `worker`, `health`, `optimize`, `compare`, `models`, `openapi`, `migrate`.
//!
//! Every flag has an environment twin. Exit codes: 0 done, 2 the request is wrong, 1 anything else. Results go to
//! standard output, everything meant for people to standard error.

mod compare;
mod denoisers;
mod health;
mod models;
mod node;
mod optimize;
mod process;
mod progress;
mod request;
mod serve;
mod table;

use crate::api::Invalid;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Finds few-step sampling schedules for diffusion models and serves them.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the HTTP service.
    Serve(Box<serve::ServeArgs>),
    /// Run jobs for services elsewhere that share the database.
    Worker(node::WorkerArgs),
    /// Ask a running service whether it is ready.
    Health(health::HealthArgs),
    /// Find one schedule offline.
    Optimize(optimize::OptimizeArgs),
    /// Score the optimised schedule beside the rules people use.
    Compare(compare::CompareArgs),
    /// List the built-in models.
    Models(models::ModelsArgs),
    /// Print the OpenAPI document.
    Openapi,
    /// Create or upgrade the database, then exit.
    Migrate(process::DatabaseArgs),
}

/// Runs a parsed command line.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => serve::serve(&args),
        Command::Worker(args) => node::work(&args),
        Command::Health(args) => health::run(&args),
        Command::Optimize(args) => optimize::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Openapi => serve::print_openapi(),
        Command::Migrate(args) => serve::migrate(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Says what went wrong, field by field where the request is at fault.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Invalid(fields)) = error.downcast_ref() {
        for field in fields {
            let name = field.pointer.trim_start_matches('/').replace('/', ".");
            eprintln!("error: {name}: {}", field.detail);
        }
        return ExitCode::from(2);
    }
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// A reader that left early (`| head`) is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
