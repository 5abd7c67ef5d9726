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
use std::ops::ControlFlow;

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
    Observer,
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

/// Minimises `fitness` over the box. `observe` sees every generation and may stop the search.
pub fn minimise<const D: usize>(
    settings: &Settings<D>,
    fitness: impl Fn(&[f64; D]) -> f64 + Sync,
    mut observe: impl FnMut(&Generation<D>) -> ControlFlow<()>,
) -> Evolved<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let unscale = |unit: &[f64; D]| scale(&settings.bounds, unit);
    let evaluate = |units: &[[f64; D]]| -> Vec<f64> {
        units
            .par_iter()
            .with_min_len(4)
            .map(|unit| fitness(&unscale(unit)))
            .collect()
    };
    let free = settings
        .bounds
        .iter()
        .filter(|(low, high)| low < high)
        .count();
    let size = (settings.population * free.max(1)).max(5);
    let mut population = latin_hypercube::<D>(size, &mut rng);
    let mut energies = evaluate(&population);
    let mut evaluations = size;
    let mut best = argmin(&energies);
    let mut stopped_by = Stop::Generations;
    let mut number = 0;
    while number < settings.generations {
        number += 1;
        let trials = mutate(&population, best, &mut rng);
        let trial_energies = evaluate(&trials);
        evaluations += size;
        for i in 0..size {
            if trial_energies[i] <= energies[i] {
                population[i] = trials[i];
                energies[i] = trial_energies[i];
            }
        }
        best = argmin(&energies);
        let generation = Generation {
            number,
            evaluations,
            best: energies[best],
        };
        if observe(&generation).is_break() {
            stopped_by = Stop::Observer;
            break;
        }
        if has_converged(&energies, settings.tolerance) {
            stopped_by = Stop::Tolerance;
            break;
        }
    }
    let mut best = Best {
        unit: population[best],
        energy: energies[best],
    };
    if stopped_by != Stop::Observer {
        let free = settings.bounds.map(|(low, high)| low < high);
        let energy = |unit: &[f64; D]| fitness(&unscale(unit));
        let polished = polish(&free, &mut best, &mut rng, energy, |used, energy| {
            observe(&Generation {
                number,
                evaluations: evaluations + used,
                best: energy,
            })
        });
        evaluations += polished.evaluations;
        if polished.stopped {
            stopped_by = Stop::Observer;
        }
    }
    Evolved {
        genes: unscale(&best.unit),
        fitness: best.energy,
        generations: number,
        evaluations,
        stopped_by,
    }
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
    best: usize,
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
                    trial[gene] = population[best][gene]
                        + factor * (population[a][gene] - population[b][gene]);
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

fn argmin(energies: &[f64]) -> usize {
    let mut best = 0;
    for (i, energy) in energies.iter().enumerate() {
        if *energy < energies[best] {
            best = i;
        }
    }
    best
}

fn has_converged(energies: &[f64], tolerance: f64) -> bool {
    let count = energies.len() as f64;
    let mean = energies.iter().sum::<f64>() / count;
    let variance = energies
        .iter()
        .map(|e| (e - mean) * (e - mean))
        .sum::<f64>()
        / count;
    libm::sqrt(variance) <= tolerance * mean.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(seed: u64) -> Settings<3> {
        Settings {
            bounds: [(-1.0, 2.0), (0.0, 1.0), (5.0, 5.0)],
            population: 20,
            generations: 60,
            tolerance: 0.01,
            seed,
        }
    }

    fn keep_going(_: &Generation<3>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn finds_a_corner_exactly() {
        let evolved = minimise(&settings(66), |x| 3.0 + x[0] - x[1], keep_going);
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
        let evolved = minimise(&settings(66), cost, keep_going);
        assert!(evolved.fitness < 10.9 + 1e-5, "{evolved:?}");
    }

    #[test]
    fn same_seed_same_bits_at_any_thread_count() {
        let cost = |x: &[f64; 3]| libm::sin(9.0 * x[0]) + libm::cos(7.0 * x[1]) * x[0];
        let run = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| minimise(&settings(7), cost, keep_going))
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.genes.map(f64::to_bits), three.genes.map(f64::to_bits));
        assert_ne!(
            one.genes,
            minimise(&settings(8), cost, |_| ControlFlow::Break(())).genes
        );
    }
}
