//! A progress line on a terminal, for work that takes longer than half a second.

use crate::hso::Progress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(500);
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

    pub fn update(&mut self, progress: &Progress) {
        let due = self.started.elapsed() >= PATIENCE
            && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
        if !self.is_terminal || !due {
            return;
        }
        eprint!(
            "\r\x1b[Kgeneration {}/{}, {} evaluations, best fitness {:.6}",
            progress.generation, progress.generations, progress.evaluations, progress.best_fitness
        );
        let _ = std::io::stderr().flush();
        self.drawn = Some(Instant::now());
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
