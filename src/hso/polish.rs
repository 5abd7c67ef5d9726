//! The local polish that ends the upper level: a pattern search inside the unit box.
//!
//! The optimum often lies in a corner of the box or on the edge of the spacing penalty, a valley so narrow that only steps
//! almost along it gain. Polling random orthonormal frames finds such steps where fixed axes do not, and clamping to
//! the box reaches its corners exactly (mesh-adaptive direct search, Audet and Dennis, SIAM J. Optim. 17, 2006).

use super::random::uniform;
use rand_chacha::ChaCha8Rng;

/// First step, in units of the box.
const FIRST_STEP: f64 = 0.1;
/// The step that ends the polish.
const RESOLUTION: f64 = 1e-9;
/// Most evaluations for each gene.
const EVALUATIONS: usize = 150;

/// The best point known, in unit coordinates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best<const D: usize> {
    pub unit: [f64; D],
    pub energy: f64,
}

/// Improves `best` in its free genes. `observe` sees evaluations used and least energy after each poll. Where `energy` is infinite
/// from some moment on, it ends within a few polls.
///
/// A poll tries both senses of every direction of a random frame; a gain doubles the step, none halves it.
pub(super) fn polish<const D: usize>(
    free: &[bool; D],
    best: &mut Best<D>,
    rng: &mut ChaCha8Rng,
    energy: impl Fn(&[f64; D]) -> f64,
    mut observe: impl FnMut(usize, f64),
) {
    let mut step = FIRST_STEP;
    let mut evaluations = 0;
    while step > RESOLUTION && evaluations < EVALUATIONS * D {
        let before = best.energy;
        for direction in random_frame::<D>(rng) {
            for sense in [step, -step] {
                let unit: [f64; D] = std::array::from_fn(|gene| {
                    let moved = best.unit[gene] + sense * direction[gene];
                    if free[gene] {
                        moved.clamp(0.0, 1.0)
                    } else {
                        best.unit[gene]
                    }
                });
                if unit == best.unit {
                    continue;
                }
                evaluations += 1;
                let energy = energy(&unit);
                if energy < best.energy {
                    *best = Best { unit, energy };
                    break;
                }
            }
        }
        step = if best.energy < before {
            (2.0 * step).min(FIRST_STEP)
        } else {
            0.5 * step
        };
        observe(evaluations, best.energy);
    }
}

/// `D` orthonormal directions: the columns of a reflection at a random unit vector.
fn random_frame<const D: usize>(rng: &mut ChaCha8Rng) -> [[f64; D]; D] {
    let mut axis = [0.0; D];
    let mut square = 0.0;
    while square < 1e-3 {
        axis = std::array::from_fn(|_| 2.0 * uniform(rng) - 1.0);
        square = axis.iter().map(|a| a * a).sum();
    }
    std::array::from_fn(|i| {
        std::array::from_fn(|j| f64::from(u8::from(i == j)) - 2.0 * axis[i] * axis[j] / square)
    })
}
