//! Spacing-Penalized Fitness: `gamma sum_i max(0, d_min - (t_i - t_{i+1}))^2` (arXiv 2511.11688).
//!
//! Time is the model's own `t`, so that a gap means the same share of the trajectory for every family.

/// The published `d_min(NFE)`: linear from 0.15 at NFE 4 to 0.01 at NFE 20, clamped outside.
#[must_use]
pub fn published_d_min(nfe: usize) -> f64 {
    (0.15 - 0.14 / 16.0 * (nfe as f64 - 4.0)).clamp(0.01, 0.15)
}

/// The penalty on the gaps of a schedule.
#[must_use]
pub fn penalty(gamma: f64, d_min: f64, gaps: impl Iterator<Item = f64>) -> f64 {
    let violation: f64 = gaps
        .map(|gap| {
            let short = (d_min - gap).max(0.0);
            short * short
        })
        .sum();
    gamma * violation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_min_is_the_papers_line() {
        assert_eq!(published_d_min(1), 0.15);
        assert_eq!(published_d_min(4), 0.15);
        assert!((published_d_min(5) - 0.14125).abs() < 1e-15);
        assert!((published_d_min(20) - 0.01).abs() < 1e-15);
        assert_eq!(published_d_min(64), 0.01);
    }

    #[test]
    fn only_short_gaps_cost() {
        let cost = penalty(2.0, 0.5, [0.5, 0.6, 0.25].into_iter());
        assert_eq!(cost, 2.0 * 0.0625);
    }
}
