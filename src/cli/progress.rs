//! A progress line on a terminal, for work that takes longer than half a second.

use crate::api::JobProgress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(500);
/// Share done from which the time left can be told.
const LEAST_FORESIGHT: f64 = 0.05;
const REDRAW: Duration = Duration::from_millis(100);

/// Draws on standard error, and wipes what it drew when dropped.
pub struct ProgressLine {
    started: Instant,
    drawn: Option<Instant>,
    is_terminal: bool,
}

impl ProgressLine {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            drawn: None,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    pub fn update(&mut self, progress: &JobProgress) {
        let due = self.started.elapsed() >= PATIENCE
            && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
        if !self.is_terminal || !due {
            return;
        }
        eprint!("\r\x1b[K{}", self.line(progress));
        let _ = std::io::stderr().flush();
        self.drawn = Some(Instant::now());
    }
}

impl ProgressLine {
    fn line(&self, progress: &JobProgress) -> String {
        let done = 100.0 * progress.fraction;
        let mut line = format!(
            "{} {done:.0} %, {} evaluations",
            progress.phase, progress.evaluations
        );
        if let Some(fitness) = progress.best_fitness {
            line += &format!(", best fitness {fitness:.6}");
        }
        if let Some(error) = progress.best_error {
            line += &format!(", lowest error {error:.5}");
        }
        if progress.fraction > LEAST_FORESIGHT {
            let left = self.started.elapsed().as_secs_f64() * (1.0 / progress.fraction - 1.0);
            line += &format!(", about {left:.0} s left");
        }
        line
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
