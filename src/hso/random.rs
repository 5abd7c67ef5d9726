//! Random numbers of the search, all from one seeded stream.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Uniform in [0, 1) with 53 random bits.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    const RESOLUTION: f64 = 1.0 / (1_u64 << 53) as f64;
    (rng.next_u64() >> 11) as f64 * RESOLUTION
}

/// A whole number below `bound`; the bias of the product method is below 2^-50 here.
pub(super) fn below(bound: usize, rng: &mut ChaCha8Rng) -> usize {
    (uniform(rng) * bound as f64) as usize
}
