//! Logs and metrics of a running service.

use clap::ValueEnum;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Sends log lines to standard error, filtered by `filter` (such as `info` or `fewstep=debug`).
///
/// # Panics
/// When called twice.
pub fn log(filter: &str, format: LogFormat) {
    let filter = EnvFilter::new(filter);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Starts counting; the handle renders what was counted in Prometheus' text format.
pub fn count() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().install_recorder()
}
