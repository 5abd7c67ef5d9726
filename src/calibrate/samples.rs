//! The samples a schedule is judged on: fixed starting noise and conditioning, and one rollout of a solver from them.
//!
//! A sample is the same whatever the schedule, the solver and the number of samples beside it, so that errors differ by
//! schedule alone; sets with different seeds share nothing. Every call of the denoiser first looks whether to stop.

use super::{CalibrateError, Phase, Progress};
use crate::denoiser::{Batch, Capacity, Conditioning, Denoiser};
use crate::schedule::{NoiseSchedule, Schedule};
use crate::solver::{self, BrownianTree, Level, Solver, Space};
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

/// Stream of a sample's starting noise; its random path uses those that number the nodes of a tree.
const START: u64 = u64::MAX;

/// 2^64 over the golden ratio, an odd number without pattern.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
/// A denoiser at work for one calibration: counts what it evaluates, tells how far it is, and stops when asked to.
pub(super) struct Bench<'a> {
    pub noise: &'a NoiseSchedule,
    denoiser: &'a dyn Denoiser,
    stop: &'a AtomicBool,
    observe: &'a mut dyn FnMut(&Progress),
    progress: Progress,
}

/// Starting noise, conditioning and random paths.
#[derive(Clone, Debug)]
pub(super) struct SampleSet {
    /// Standard normal numbers.
    noise: Batch,
    conditioning: Conditioning,
    /// One a sample: its starting noise and its random path come from it.
    seeds: Vec<u64>,
}

impl SampleSet {
    /// `count` samples; labels go round, so that every class has its share.
    pub fn new(denoiser: &dyn Denoiser, labels: &[u32], seed: u64, count: usize) -> Self {
        let size = denoiser.shape().iter().product();
        // The upper half of a long seed is mixed in rather than lost.
        let mixed = (seed << 32) ^ (seed >> 32).wrapping_mul(GOLDEN_RATIO);
        let seeds: Vec<u64> = (0..count as u64).map(|k| mixed ^ k).collect();
        let noise = seeds
            .iter()
            .flat_map(|&seed| solver::normals(seed, START, size))
            .map(|z| z as f32)
            .collect();
        let conditioning = if labels.is_empty() {
            Conditioning::None
        } else {
            Conditioning::Classes(labels.iter().copied().cycle().take(count).collect())
        };
        Self {
            noise: Batch::new(noise, count),
            conditioning,
            seeds,
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.noise.samples()
    }

    /// Some of them.
    pub fn slice(&self, samples: Range<usize>) -> Self {
        Self {
            noise: self.noise.slice(samples.clone()),
            conditioning: match &self.conditioning {
                Conditioning::None => Conditioning::None,
                Conditioning::Classes(labels) => {
                    Conditioning::Classes(labels[samples.clone()].to_vec())
                }
            },
            seeds: self.seeds[samples].to_vec(),
        }
    }
}

impl<'a> Bench<'a> {
    pub fn new(
        noise: &'a NoiseSchedule,
        denoiser: &'a dyn Denoiser,
        stop: &'a AtomicBool,
        observe: &'a mut dyn FnMut(&Progress),
    ) -> Self {
        Self {
            noise,
            denoiser,
            stop,
            observe,
            progress: Progress {
                phase: Phase::Teacher,
                evaluations: 0,
                batches: 0,
                planned: 1,
                best_error: None,
            },
        }
    }

    /// Begins a phase that takes `evaluations`, with `after` more to follow in later ones.
    pub fn begin(&mut self, phase: Phase, evaluations: u64, after: u64) {
        self.progress.phase = phase;
        self.progress.planned = self.progress.evaluations + evaluations + after;
    }

    /// Says that the phase takes more than was planned.
    pub fn extend(&mut self, evaluations: u64) {
        self.progress.planned += evaluations;
    }

    /// Tells the lowest error that is known so far.
    pub fn found(&mut self, error: f64) {
        let best = self.progress.best_error.get_or_insert(error);
        *best = best.min(error);
    }

    /// Denoiser evaluations so far, one a sample.
    pub fn evaluations(&self) -> u64 {
        self.progress.evaluations
    }

    /// Samples at the end of a schedule.
    pub fn run(
        &mut self,
        solver: Solver,
        schedule: &Schedule,
        set: &SampleSet,
    ) -> Result<Batch, CalibrateError> {
        let Capacity { samples, in_flight } = self.denoiser.capacity();
        let levels = solver::levels(self.noise, schedule);
        let sets: Vec<SampleSet> = (0..set.len())
            .step_by(samples)
            .map(|first| set.slice(first..set.len().min(first + samples)))
            .collect();
        let (denoiser, stop) = (self.denoiser, self.stop);
        let rollout = |set: &SampleSet, evaluated: &mut dyn FnMut(usize)| {
            rollout(denoiser, solver, &levels, set, stop, evaluated)
        };
        let ends = if in_flight.min(sets.len()) <= 1 {
            let one = |set| rollout(set, &mut |samples| self.count(samples));
            sets.iter().map(one).collect::<Result<Vec<_>, _>>()?
        } else {
            side_by_side(&sets, in_flight, &rollout, &mut |samples| {
                self.count(samples);
            })?
        };
        Ok(Batch::concat(&ends))
    }

    /// Counts a batch of so many samples.
    fn count(&mut self, samples: usize) {
        self.progress.evaluations += samples as u64;
        self.progress.batches += 1;
        (self.observe)(&self.progress);
    }
}

/// One solve of a set: its samples at the end.
fn rollout(
    denoiser: &dyn Denoiser,
    solver: Solver,
    levels: &[Level],
    set: &SampleSet,
    stop: &AtomicBool,
    evaluated: &mut dyn FnMut(usize),
) -> Result<Batch, CalibrateError> {
    let start = Batch::combine(&[(starting_scale(&levels[0]), &set.noise)]);
    let (samples, size) = (set.len(), set.noise.size());
    let mut brownian = BrownianTree::new(set.seeds.clone(), size, |path: Vec<f64>| {
        Batch::new(path.iter().map(|&w| w as f32).collect(), samples)
    });
    solver::sample(solver, levels, start, &mut brownian, &mut |x, level| {
        if stop.load(Ordering::Relaxed) {
            return Err(CalibrateError::Stopped);
        }
        let clean = denoiser.denoise(x, level, &set.conditioning)?;
        evaluated(samples);
        if clean.data().iter().all(|v| v.is_finite()) {
            Ok(clean)
        } else {
            Err(CalibrateError::NotFinite {
                timestep: level.timestep,
            })
        }
    })
}

/// Solves a set, and tells of every batch how many samples it had.
type Rollout<'a> =
    dyn Fn(&SampleSet, &mut dyn FnMut(usize)) -> Result<Batch, CalibrateError> + Sync + 'a;

/// Solves several sets at a time, so that their samplers are at work while the denoiser is; the ends are in the sets' order.
fn side_by_side(
    sets: &[SampleSet],
    lanes: usize,
    rollout: &Rollout,
    count: &mut dyn FnMut(usize),
) -> Result<Vec<Batch>, CalibrateError> {
    thread::scope(|scope| {
        let (evaluated, counted) = mpsc::channel();
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| {
                let evaluated = evaluated.clone();
                scope.spawn(move || {
                    let own = sets.iter().skip(lane).step_by(lanes);
                    own.map(|set| {
                        rollout(set, &mut |samples| {
                            let _ = evaluated.send(samples);
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        drop(evaluated);
        counted.iter().for_each(count);
        let mut ends = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let lane = lane.join().unwrap_or_else(|panic| resume_unwind(panic));
            ends.push(lane?.into_iter());
        }
        let lanes = ends.len();
        let next = |i: usize| ends[i % lanes].next().expect("a lane has its sets' ends");
        Ok((0..sets.len()).map(next).collect())
    })
}

/// Standard deviation of the noise sampling starts from: 1 where the model's own noise is at most that (variance-preserving and
/// flow models, wherever they start), the noise level itself for EDM models.
fn starting_scale(level: &Level) -> f64 {
    level.sigma.max(1.0)
}
