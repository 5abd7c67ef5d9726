//! Exact derivatives against central differences, away from kinks.

use fewstep::objective::Objective;
use fewstep::objective::derivatives::Derivatives;
use fewstep::objective::mep::Mep;
use fewstep::objective::unipc_bound::UniPcBound;
use fewstep::objective::unipc_midpoint::UniPcMidpoint;

const LAMBDAS: [f64; 9] = [-2.6, -2.1, -1.4, -0.9, -0.2, 0.5, 0.9, 1.7, 2.4];

/// The objectives with short and long schedules (the bound changes form at 7 intervals) and every solver order.
fn cases() -> Vec<(Box<dyn Objective>, &'static [f64])> {
    let mut cases: Vec<(Box<dyn Objective>, &'static [f64])> = Vec::new();
    for points in [&LAMBDAS[..], &LAMBDAS[1..7], &LAMBDAS[2..5]] {
        for p in [1.0, 2.0, 3.5] {
            cases.push((Box::new(Mep::new(p)), points));
            for order in 1..=3 {
                cases.push((Box::new(UniPcBound::new(p, order)), points));
                cases.push((Box::new(UniPcMidpoint::new(p, order)), points));
            }
        }
    }
    cases
}

fn moved(points: &[f64], moves: &[(usize, f64)]) -> Vec<f64> {
    let mut moved = points.to_vec();
    for &(i, by) in moves {
        moved[i] += by;
    }
    moved
}

#[test]
fn gradients_and_hessians_are_central_differences() {
    for (objective, points) in cases() {
        let interior = points.len() - 2;
        let mut exact = Derivatives::new(points.len(), objective.half_bandwidth());
        objective.differentiate(points, 0.0, &mut exact);
        let value = |moves: &[(usize, f64)]| objective.value(&moved(points, moves));
        assert!((exact.value - value(&[])).abs() < 1e-12 * exact.value.abs());
        let scale = exact.value.abs();
        for i in 0..interior {
            let h = 1e-5;
            let slope = (value(&[(i + 1, h)]) - value(&[(i + 1, -h)])) / (2.0 * h);
            let error = (slope - exact.gradient[i]).abs();
            assert!(
                error < 1e-7 * scale.max(1.0),
                "gradient {i}: {slope} {}",
                exact.gradient[i]
            );
            for j in 0..interior {
                let h = 1e-4;
                let curvature = (value(&[(i + 1, h), (j + 1, h)])
                    - value(&[(i + 1, h), (j + 1, -h)])
                    - value(&[(i + 1, -h), (j + 1, h)])
                    + value(&[(i + 1, -h), (j + 1, -h)]))
                    / (4.0 * h * h);
                // The element through quadratic forms: e_i' H e_j.
                let form = |x: &[f64]| exact.hessian.quadratic_form(x);
                let unit = |k: usize| {
                    (0..interior)
                        .map(|n| f64::from(u8::from(n == k)))
                        .collect::<Vec<_>>()
                };
                let sum: Vec<f64> = unit(i).iter().zip(unit(j)).map(|(a, b)| a + b).collect();
                let element = 0.5 * (form(&sum) - form(&unit(i)) - form(&unit(j)));
                let error = (curvature - element).abs();
                assert!(
                    error < 1e-6 * (scale.max(1.0) + element.abs()),
                    "hessian {i} {j}: {curvature} {element}"
                );
            }
        }
    }
}

#[test]
fn rounded_kinks_stay_above_and_close() {
    for (objective, points) in cases() {
        let mut rounded = Derivatives::new(points.len(), objective.half_bandwidth());
        objective.differentiate(points, 1e-3, &mut rounded);
        let sharp = objective.value(points);
        assert!(rounded.value >= sharp - 1e-12);
        assert!(rounded.value - sharp < 2e-2);
    }
}
