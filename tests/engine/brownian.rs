//! The noise of stochastic samplers: one path a seed, which every schedule and every batch sees.

use fewstep::solver::{Brownian, BrownianTree, Level, normals};

/// The EDM level of half log-SNR `lambda`.
fn at(lambda: f64) -> Level {
    Level {
        timestep: 0.0,
        alpha: 1.0,
        sigma: libm::exp(-lambda),
    }
}

fn tree(seeds: &[u64], size: usize) -> BrownianTree<fn(Vec<f64>) -> Vec<f64>> {
    BrownianTree::new(seeds.to_vec(), size, |values| values)
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }
}

#[test]
fn a_refined_schedule_sees_the_same_path() {
    let points = [-3.1, -1.7, -1.69, 0.0, 0.25, 2.9, 4.0];
    let (first, last) = (points[0], points[6]);
    let whole: Vec<f64> = tree(&[5], 16)
        .noise(&at(first), &at(last))
        .iter()
        .map(|z| z * libm::sqrt(last - first))
        .collect();
    let mut sum = vec![0.0; 16];
    let mut fine = tree(&[5], 16);
    for pair in points.windows(2) {
        let noise = fine.noise(&at(pair[0]), &at(pair[1]));
        for (sum, z) in sum.iter_mut().zip(noise) {
            *sum += z * libm::sqrt(pair[1] - pair[0]);
        }
    }
    close(&sum, &whole);
    // Nor does the order in which intervals are asked for matter.
    let mut again = tree(&[5], 16);
    again.noise(&at(2.9), &at(4.0));
    close(
        &again.noise(&at(-1.7), &at(-1.69)),
        &tree(&[5], 16).noise(&at(-1.7), &at(-1.69)),
    );
}

#[test]
fn a_sample_has_its_path_in_every_batch() {
    let (from, to) = (at(-0.5), at(0.75));
    let both = tree(&[3, 9], 4).noise(&from, &to);
    let swapped = tree(&[9, 3], 4).noise(&from, &to);
    let alone = tree(&[9], 4).noise(&from, &to);
    assert_eq!(both[4..], alone);
    assert_eq!(swapped[..4], alone);
    assert_eq!(swapped[4..], both[..4]);
    assert_ne!(both[..4], both[4..]);
}

#[test]
fn increments_are_standard_normal_and_independent() {
    let count = 20_000;
    let mut tree = tree(&[11], count);
    let points = [f64::NEG_INFINITY, -4.0, -0.3, -0.28, 1.0, 5.0];
    let levels = points.map(|lambda| {
        if lambda == f64::NEG_INFINITY {
            Level {
                timestep: 0.0,
                alpha: 0.0,
                sigma: 1.0,
            }
        } else {
            at(lambda)
        }
    });
    let noises: Vec<Vec<f64>> = levels
        .windows(2)
        .map(|p| tree.noise(&p[0], &p[1]))
        .collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count as f64;
    // Four standard errors.
    let tolerance = 4.0 / libm::sqrt(count as f64);
    for (i, a) in noises.iter().enumerate() {
        assert!(mean(&mut a.iter().copied()).abs() < tolerance);
        assert!((mean(&mut a.iter().map(|v| v * v)) - 1.0).abs() < 1.5 * tolerance);
        assert!((mean(&mut a.iter().map(|v| v * v * v * v)) - 3.0).abs() < 10.0 * tolerance);
        for b in &noises[..i] {
            assert!(mean(&mut a.iter().zip(b).map(|(a, b)| a * b)).abs() < tolerance);
        }
    }
}

#[test]
fn normals_are_the_same_bits_everywhere() {
    assert_eq!(normals(66, 7, 3), PINNED);
    // A longer list starts with the shorter one; seeds and streams differ.
    assert_eq!(normals(66, 7, 8)[..3], PINNED);
    assert_ne!(normals(67, 7, 3), PINNED);
    assert_ne!(normals(66, 8, 3), PINNED);
}

const PINNED: [f64; 3] = [
    0.003_060_515_846_151_141,
    0.843_884_956_438_169_7,
    -0.995_075_818_464_602_5,
];
