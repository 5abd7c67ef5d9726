//! The teacher: a fine solve whose clean samples are what few steps should reach, doubled until it stays where it is.

use super::error::ErrorStats;
use super::samples::{Bench, SampleSet};
use super::{CalibrateError, TeacherReport};
use crate::denoiser::Batch;
use crate::schedule::{NoiseSchedule, Schedule, Terminal};
use crate::solver::{Solver, Variant, levels};

/// Steps of the first solve and the most a teacher takes.
const STEPS: (usize, usize) = (32, 512);
/// Steps that usually converge; what goes beyond is told to who waits.
const EXPECTED: usize = 2 * STEPS.0;
/// Solver of deterministic teachers.
const FINE: Solver = Solver::Unipc {
    order: 3,
    variant: Variant::Bh2,
    corrector: true,
};
/// A doubling that moves samples by less than this share of their size has converged.
const CONVERGED: f64 = 0.004;

/// A converged fine solve.
pub(super) struct Teacher {
    solver: Solver,
    schedule: Schedule,
    pub report: TeacherReport,
    /// Clean samples of the set it was converged on.
    pub targets: Batch,
}

impl Teacher {
    /// Doubles the steps on a set until its samples stay. A stochastic student is held against its own solver on the same
    /// random paths, a deterministic one against third-order UniPC.
    pub fn converge(
        bench: &mut Bench,
        student: Solver,
        set: &SampleSet,
    ) -> Result<Self, CalibrateError> {
        let solver = if student.is_stochastic() {
            student
        } else {
            FINE
        };
        let mut steps = STEPS.0;
        let mut coarse = bench.run(solver, &fine(bench.noise, steps), set)?;
        loop {
            steps *= 2;
            if steps > EXPECTED {
                bench.extend((steps * set.len()) as u64);
            }
            let schedule = fine(bench.noise, steps);
            let targets = bench.run(solver, &schedule, set)?;
            let change = ErrorStats::between(&coarse, &targets).mean;
            let zero = Batch::new(vec![0.0; targets.data().len()], targets.samples());
            let size = ErrorStats::between(&targets, &zero).mean;
            let converged = change <= CONVERGED * size;
            if converged || steps >= STEPS.1 {
                return Ok(Self {
                    report: TeacherReport {
                        solver,
                        nfe: solver.evaluations(&levels(bench.noise, &schedule)),
                        change,
                        converged,
                    },
                    solver,
                    schedule,
                    targets,
                });
            }
            coarse = targets;
        }
    }

    /// Clean samples of another set.
    pub fn solve(&self, bench: &mut Bench, set: &SampleSet) -> Result<Batch, CalibrateError> {
        bench.run(self.solver, &self.schedule, set)
    }
}

/// `steps` points over all the model's times, then the clean estimate: evenly in log-SNR, where multistep solvers are at
/// their best.
fn fine(noise: &NoiseSchedule, steps: usize) -> Schedule {
    let (t_min, t_max) = noise.t_range();
    let (low, high) = (noise.lambda(t_max), noise.lambda(t_min));
    let lambdas = (0..steps)
        .map(|i| low + (high - low) * i as f64 / (steps - 1) as f64)
        .collect();
    Schedule::from_lambdas(noise, lambdas, Terminal::Denoise)
        .expect("evenly spaced log-SNRs are a schedule")
}
