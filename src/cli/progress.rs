//! How far work is, once it takes longer than half a second: a line that is redrawn on a terminal, now and then a line elsewhere.

use crate::api::JobProgress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(500);
/// How often a line is written where none can be redrawn.
const LOGGED: Duration = Duration::from_secs(10);
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
        let (patience, redraw) = if self.is_terminal {
            (PATIENCE, REDRAW)
        } else {
            (LOGGED, LOGGED)
        };
        let due = self.started.elapsed() >= patience
            && self.drawn.is_none_or(|drawn| drawn.elapsed() >= redraw);
        if !due {
            return;
        }
        if self.is_terminal {
            eprint!("\r\x1b[K{}", self.line(progress));
        } else {
            eprintln!("{}", self.line(progress));
        }
        let _ = std::io::stderr().flush();
        self.drawn = Some(Instant::now());
    }
}

impl ProgressLine {
    fn line(&self, progress: &JobProgress) -> String {
        let fitness = progress
            .best_fitness
            .map_or_else(String::new, |best| format!(", best fitness {best:.6}"));
        let error = progress
            .best_error
            .map_or_else(String::new, |least| format!(", lowest error {least:.5}"));
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = if progress.fraction > LEAST_FORESIGHT {
            format!(
                ", about {:.0} s left",
                elapsed * (1.0 / progress.fraction - 1.0)
            )
        } else {
            String::new()
        };
        format!(
            "{} {:.0} %, {} evaluations{fitness}{error}{left}",
            progress.phase,
            100.0 * progress.fraction,
            progress.evaluations
        )
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_terminal && self.drawn.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
