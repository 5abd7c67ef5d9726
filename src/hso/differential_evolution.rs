//! The upper level of HSO: differential evolution with SciPy's settings, then a local polish inside the box.
//!
//! `best1bin`, deferred updating, Latin hypercube start, dithered mutation, out-of-box genes redrawn, and SciPy's
//! stopping rule (spread of the population's fitness against its mean). Trials are drawn from one seeded stream and
//! evaluated in parallel in a fixed order, so a seed gives the same bits at any number of threads.
//! Storn and Price, J. Global Optimization 11 (1997).

use super::polish::{Best, polish};
use super::random::{below, uniform};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Dithered mutation range and crossover probability.
const MUTATION: (f64, f64) = (0.5, 1.0);
const RECOMBINATION: f64 = 0.7;

/// Settings of an evolution over `D` genes.
#[derive(Clone, Debug)]
pub struct Settings<const D: usize> {
    /// Inclusive range of each gene; a gene whose ends are equal is fixed.
    pub bounds: [(f64, f64); D],
    /// SciPy's multiplier: population members for every free gene.
    pub population: usize,
    pub generations: usize,
    pub tolerance: f64,
    pub seed: u64,
}

/// What evolution reports after each generation, and the polish after each poll.
#[derive(Clone, Copy, Debug)]
pub struct Generation<const D: usize> {
    pub number: usize,
    pub evaluations: usize,
    pub best: f64,
}

/// Why evolution stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Tolerance,
    Generations,
    /// The caller's flag.
    Asked,
}

/// The best genes found.
#[derive(Clone, Debug)]
pub struct Evolved<const D: usize> {
    pub genes: [f64; D],
    pub fitness: f64,
    pub generations: usize,
    pub evaluations: usize,
    pub stopped_by: Stop,
}

/// Minimises `fitness` over the box. `observe` sees every generation and every poll of the polish. Once `stop` is set no
/// fitness is evaluated any more, and the search ends within the evaluations under way.
pub fn minimise<const D: usize>(
    settings: &Settings<D>,
    fitness: impl Fn(&[f64; D]) -> f64 + Sync,
    stop: &AtomicBool,
    mut observe: impl FnMut(&Generation<D>),
) -> Evolved<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let stopped = || stop.load(Ordering::Relaxed);
    let energy = |unit: &[f64; D]| {
        if stopped() {
            f64::INFINITY
        } else {
            fitness(&scale(&settings.bounds, unit))
        }
    };
    let free = settings.bounds.map(|(low, high)| low < high);
    let free_genes = free.iter().filter(|&&is_free| is_free).count();
    let size = (settings.population * free_genes.max(1)).max(5);
    let mut population = Population::drawn(size, &energy, &mut rng);
    let mut stopped_by = Stop::Generations;
    let mut seen = Generation {
        number: 0,
        evaluations: size,
        best: population.best().energy,
    };
    while seen.number < settings.generations && stopped_by == Stop::Generations {
        population.evolve(&energy, &mut rng);
        seen = Generation {
            number: seen.number + 1,
            evaluations: seen.evaluations + size,
            best: population.best().energy,
        };
        observe(&seen);
        if stopped() {
            stopped_by = Stop::Asked;
        } else if population.agrees_within(settings.tolerance) {
            stopped_by = Stop::Tolerance;
        }
    }
    let mut best = population.best();
    if stopped_by != Stop::Asked {
        let evolved = seen;
        polish(&free, &mut best, &mut rng, energy, |used, least| {
            seen = Generation {
                evaluations: evolved.evaluations + used,
                best: least,
                ..evolved
            };
            observe(&seen);
        });
        if stopped() {
            stopped_by = Stop::Asked;
        }
    }
    Evolved {
        genes: scale(&settings.bounds, &best.unit),
        fitness: best.energy,
        generations: seen.number,
        evaluations: seen.evaluations,
        stopped_by,
    }
}

/// Members in unit coordinates with their fitness.
struct Population<const D: usize> {
    units: Vec<[f64; D]>,
    energies: Vec<f64>,
}

impl<const D: usize> Population<D> {
    /// A first population, spread over the box.
    fn drawn(
        size: usize,
        energy: &(impl Fn(&[f64; D]) -> f64 + Sync),
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let units = latin_hypercube(size, rng);
        let energies = evaluate(&units, energy);
        Self { units, energies }
    }

    /// One generation: a trial for every member, which it replaces where it is no worse.
    fn evolve(&mut self, energy: &(impl Fn(&[f64; D]) -> f64 + Sync), rng: &mut ChaCha8Rng) {
        let trials = mutate(&self.units, &self.best().unit, rng);
        let energies = evaluate(&trials, energy);
        for (i, (trial, energy)) in trials.into_iter().zip(energies).enumerate() {
            if energy <= self.energies[i] {
                self.units[i] = trial;
                self.energies[i] = energy;
            }
        }
    }

    /// The first of the best members.
    fn best(&self) -> Best<D> {
        let mut best = 0;
        for (i, energy) in self.energies.iter().enumerate() {
            if *energy < self.energies[best] {
                best = i;
            }
        }
        Best {
            unit: self.units[best],
            energy: self.energies[best],
        }
    }

    /// SciPy's stopping rule: the standard deviation of the fitness against its mean.
    fn agrees_within(&self, tolerance: f64) -> bool {
        let count = self.energies.len() as f64;
        let mean = self.energies.iter().sum::<f64>() / count;
        let squares = self.energies.iter().map(|e| (e - mean) * (e - mean));
        libm::sqrt(squares.sum::<f64>() / count) <= tolerance * mean.abs()
    }
}

/// Fitness of every member, in parallel and in order.
fn evaluate<const D: usize>(
    units: &[[f64; D]],
    energy: &(impl Fn(&[f64; D]) -> f64 + Sync),
) -> Vec<f64> {
    units.par_iter().with_min_len(4).map(energy).collect()
}

/// Genes from unit coordinates; exact at both ends of every range.
fn scale<const D: usize>(bounds: &[(f64, f64); D], unit: &[f64; D]) -> [f64; D] {
    let mut genes = [0.0; D];
    for (gene, (&u, &(low, high))) in genes.iter_mut().zip(unit.iter().zip(bounds)) {
        *gene = if u >= 1.0 {
            high
        } else {
            low + u * (high - low)
        };
    }
    genes
}

/// One member in each of `size` equal slices of every gene's range, slices shuffled gene by gene.
fn latin_hypercube<const D: usize>(size: usize, rng: &mut ChaCha8Rng) -> Vec<[f64; D]> {
    let mut population = vec![[0.0; D]; size];
    for gene in 0..D {
        let mut slices: Vec<usize> = (0..size).collect();
        for i in (1..size).rev() {
            slices.swap(i, below(i + 1, rng));
        }
        for (member, slice) in population.iter_mut().zip(slices) {
            member[gene] = (slice as f64 + uniform(rng)) / size as f64;
        }
    }
    population
}

/// A trial for every member: `best + F (a - b)` crossed over with the member; genes that leave the box are redrawn.
fn mutate<const D: usize>(
    population: &[[f64; D]],
    best: &[f64; D],
    rng: &mut ChaCha8Rng,
) -> Vec<[f64; D]> {
    let factor = MUTATION.0 + (MUTATION.1 - MUTATION.0) * uniform(rng);
    (0..population.len())
        .map(|i| {
            let a = other_than(&[i], population.len(), rng);
            let b = other_than(&[i, a], population.len(), rng);
            let always = below(D, rng);
            let mut trial = population[i];
            for gene in 0..D {
                if gene == always || uniform(rng) < RECOMBINATION {
                    trial[gene] = best[gene] + factor * (population[a][gene] - population[b][gene]);
                }
            }
            for gene in &mut trial {
                if !(0.0..=1.0).contains(gene) {
                    *gene = uniform(rng);
                }
            }
            trial
        })
        .collect()
}

fn other_than(taken: &[usize], size: usize, rng: &mut ChaCha8Rng) -> usize {
    loop {
        let candidate = below(size, rng);
        if !taken.contains(&candidate) {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn settings(seed: u64) -> Settings<3> {
        Settings {
            bounds: [(-1.0, 2.0), (0.0, 1.0), (5.0, 5.0)],
            population: 20,
            generations: 60,
            tolerance: 0.01,
            seed,
        }
    }

    fn run(settings: &Settings<3>, cost: impl Fn(&[f64; 3]) -> f64 + Sync) -> Evolved<3> {
        minimise(settings, cost, &AtomicBool::new(false), |_| {})
    }

    #[test]
    fn finds_a_corner_exactly() {
        let evolved = run(&settings(66), |x| 3.0 + x[0] - x[1]);
        assert_eq!(evolved.genes, [-1.0, 1.0, 5.0]);
        assert_eq!(evolved.fitness, 1.0);
    }

    #[test]
    fn follows_a_stiff_one_sided_valley() {
        // least at x + y = 1 with y as large as allowed: (0, 1)
        let cost = |x: &[f64; 3]| {
            let short = (1.0 - x[0] - x[1]).max(0.0);
            10.0 + x[0] + 0.9 * x[1] + 1e9 * short * short
        };
        let evolved = run(&settings(66), cost);
        assert!(evolved.fitness < 10.9 + 1e-5, "{evolved:?}");
    }

    #[test]
    fn same_seed_same_bits_at_any_thread_count() {
        let cost = |x: &[f64; 3]| libm::sin(9.0 * x[0]) + libm::cos(7.0 * x[1]) * x[0];
        let on = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| run(&settings(7), cost))
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one.genes.map(f64::to_bits), three.genes.map(f64::to_bits));
        assert_ne!(one.genes, run(&settings(8), cost).genes);
    }

    #[test]
    fn nothing_is_evaluated_once_it_is_asked_to_stop() {
        let (stop, evaluations) = (AtomicBool::new(false), AtomicUsize::new(0));
        let cost = |x: &[f64; 3]| {
            if evaluations.fetch_add(1, Ordering::SeqCst) == 100 {
                stop.store(true, Ordering::SeqCst);
            }
            x[0]
        };
        let evolved = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap()
            .install(|| minimise(&settings(7), cost, &stop, |_| {}));
        assert_eq!(evolved.stopped_by, Stop::Asked);
        assert_eq!(evaluations.load(Ordering::SeqCst), 101);
    }
}
