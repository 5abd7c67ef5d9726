//! What every sampler promises, on a denoiser that is exact: the posterior mean of a Gaussian mixture.

use crate::mixture::Mixture;
use fewstep::solver::{BrownianTree, Level, NoNoise, Solver, Variant, prediction, sample};
use std::convert::Infallible;

fn mixture() -> Mixture {
    Mixture {
        weights: vec![0.6, 0.4],
        means: vec![vec![1.0, -0.5], vec![-0.75, 0.25]],
        deviations: vec![0.6, 0.5],
    }
}

const START: [f64; 4] = [0.9, -1.3, -0.2, 0.7];

/// Every solver with every option.
fn solvers() -> Vec<Solver> {
    let mut solvers = vec![
        Solver::Ddim,
        Solver::Heun,
        Solver::Dpmpp2m,
        Solver::Dpmpp3m,
        Solver::EulerAncestral,
        Solver::SdeDpmpp2m,
    ];
    for order in 1..=3 {
        solvers.push(Solver::Deis { order });
        for variant in [Variant::Bh1, Variant::Bh2] {
            solvers.extend([true, false].map(|corrector| Solver::Unipc {
                order,
                variant,
                corrector,
            }));
        }
    }
    solvers.extend((1..=4).map(|order| Solver::Ipndm { order }));
    solvers
}

fn unipc(order: usize) -> Solver {
    Solver::Unipc {
        order,
        variant: Variant::Bh2,
        corrector: true,
    }
}

/// UniPC without its corrector.
fn predictor(order: usize) -> Solver {
    Solver::Unipc {
        order,
        variant: Variant::Bh2,
        corrector: false,
    }
}

/// The variance-preserving level of half log-SNR `lambda`.
fn vp(lambda: f64) -> Level {
    let alpha = 1.0 / libm::sqrt(1.0 + libm::exp(-2.0 * lambda));
    Level {
        timestep: 0.0,
        alpha,
        sigma: alpha * libm::exp(-lambda),
    }
}

fn flow(sigma: f64) -> Level {
    Level {
        timestep: sigma,
        alpha: 1.0 - sigma,
        sigma,
    }
}

fn tree(seed: u64) -> BrownianTree<fn(Vec<f64>) -> Vec<f64>> {
    BrownianTree::new(vec![seed], START.len(), |values| values)
}

/// The sample, and how often the denoiser was called.
fn run_from(solver: Solver, levels: &[Level], x: &[f64], seed: u64) -> (Vec<f64>, usize) {
    let mixture = mixture();
    let mut calls = 0;
    let mut denoise = |x: &Vec<f64>, level: &Level| -> Result<_, Infallible> {
        calls += 1;
        Ok(mixture.clean(x, level))
    };
    let Ok(sample) = if solver.is_stochastic() {
        sample(solver, levels, x.to_vec(), &mut tree(seed), &mut denoise)
    } else {
        sample(solver, levels, x.to_vec(), &mut NoNoise, &mut denoise)
    };
    (sample, calls)
}

fn run(solver: Solver, levels: &[Level]) -> Vec<f64> {
    run_from(solver, levels, &START, 1).0
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, |most, v| if v.is_nan() { v } else { most.max(v) })
}

/// Levels from half log-SNR -1.5 to 1.5 in `n` steps, of which the first and the last are so short that their low
/// order does not show.
fn graded(n: usize) -> Vec<Level> {
    let h = 3.0 / n as f64;
    let inner = (0..=n - 2).map(|k| {
        let (low, high) = (-1.5 + h * h, 1.5 - h * h);
        low + (high - low) * k as f64 / (n - 2) as f64
    });
    let ends = |lambda| std::iter::once(lambda);
    ends(-1.5).chain(inner).chain(ends(1.5)).map(vp).collect()
}

/// Order of convergence, from 160 to 320 steps, on a family of schedules.
fn order(solver: Solver, schedule: &dyn Fn(usize) -> Vec<Level>) -> f64 {
    let truth = run(Solver::Deis { order: 3 }, &schedule(4000));
    let error = |n| distance(&run(solver, &schedule(n)), &truth);
    libm::log2(error(160) / error(320))
}

#[test]
fn solvers_converge_at_their_order() {
    for (solver, expected) in [
        (Solver::Ddim, 1.0),
        (Solver::Heun, 2.0),
        (Solver::Dpmpp2m, 2.0),
        // As published, see `dpmpp.rs`.
        (Solver::Dpmpp3m, 2.0),
        (Solver::Deis { order: 1 }, 1.0),
        (Solver::Deis { order: 2 }, 2.0),
        (Solver::Deis { order: 3 }, 3.0),
        // The corrector is one order better than the predictor.
        (unipc(1), 2.0),
        (unipc(2), 3.0),
        (unipc(3), 4.0),
        (predictor(2), 2.0),
        (predictor(3), 3.0),
        (Solver::Ipndm { order: 1 }, 1.0),
    ] {
        let measured = order(solver, &graded);
        assert!(
            (measured - expected).abs() < 0.3,
            "{solver:?} converges at order {measured}"
        );
    }
}

#[test]
fn ipndm_is_of_second_order_on_equal_steps() {
    let equal = |n: usize| {
        let level = |k| flow(0.9 - 0.7 * f64::from(k) / n as f64);
        (0..=n as u32).map(level).collect()
    };
    for order_asked in 2..=4 {
        let measured = order(Solver::Ipndm { order: order_asked }, &equal);
        assert!(
            (measured - 2.0).abs() < 0.3,
            "order {order_asked} converges at {measured}"
        );
    }
}

/// Schedules with every kind of end: to some noise or clean, from some noise or nothing else.
fn schedules() -> Vec<Vec<Level>> {
    let pure_vp = Level {
        timestep: 999.0,
        alpha: 0.0,
        sigma: 1.0,
    };
    let [vps, flows] = [
        [-1.5, -0.7, 0.1, 0.6, 1.4].map(vp),
        [0.95, 0.8, 0.6, 0.3, 0.1].map(flow),
    ];
    let with = |start: Option<Level>, levels: &[Level], end: Option<Level>| {
        start
            .into_iter()
            .chain(levels.iter().copied())
            .chain(end)
            .collect::<Vec<_>>()
    };
    let long: Vec<Level> = (0..18).map(|k| vp(-2.0 + 0.25 * f64::from(k))).collect();
    let mut schedules = Vec::new();
    for end in [None, Some(Level::CLEAN)] {
        for (pure, levels) in [
            (pure_vp, &vps[..]),
            (flow(1.0), &flows[..]),
            (pure_vp, &long[..]),
        ] {
            schedules.extend([with(None, levels, end), with(Some(pure), levels, end)]);
        }
        schedules.push(with(Some(pure_vp), &vps[..1], end));
    }
    schedules
}

#[test]
fn every_end_is_defined_and_evaluations_are_counted() {
    for solver in solvers() {
        for levels in schedules() {
            let (sample, calls) = run_from(solver, &levels, &START, 1);
            assert!(
                sample.iter().all(|v| v.is_finite() && v.abs() < 20.0),
                "{solver:?} on {levels:?}: {sample:?}"
            );
            assert_eq!(
                calls,
                solver.evaluations(&levels),
                "{solver:?} on {levels:?}"
            );
        }
    }
}

#[test]
fn heun_spends_two_evaluations_an_interval_and_one_on_a_clean_end() {
    let levels = [-1.0, 0.0, 1.0].map(vp);
    assert_eq!(Solver::Heun.evaluations(&levels), 4);
    assert_eq!(
        Solver::Heun.evaluations(&[levels[0], levels[1], Level::CLEAN]),
        3
    );
    assert_eq!(Solver::Dpmpp2m.evaluations(&levels), 2);
    assert_eq!(Solver::Ddim.evaluations(&levels[..1]), 0);
}

#[test]
fn one_step_to_the_clean_end_is_the_prediction() {
    for start in [
        vp(-1.0),
        flow(0.7),
        flow(1.0),
        Level {
            alpha: 1.0,
            ..vp(-1.0)
        },
    ] {
        let prediction = mixture().clean(&START, &start);
        for solver in solvers() {
            let sample = run(solver, &[start, Level::CLEAN]);
            assert!(
                distance(&sample, &prediction) < 1e-14,
                "{solver:?}: {sample:?}"
            );
        }
    }
}

/// The solvers that look back on no earlier output, so that how far away the start is does not show.
#[test]
fn pure_noise_is_the_limit_of_nearly_pure_noise() {
    let first_order = [
        Solver::Ddim,
        Solver::Deis { order: 1 },
        Solver::Ipndm { order: 1 },
        unipc(1),
        predictor(1),
    ];
    let flows = |start| [flow(start), flow(0.8), flow(0.5), flow(0.2)];
    let vps = |start: Level| [start, vp(-1.0), vp(0.0), vp(1.0)];
    let pure = Level {
        timestep: 0.0,
        alpha: 0.0,
        sigma: 1.0,
    };
    for solver in first_order {
        assert!(
            distance(&run(solver, &vps(pure)), &run(solver, &vps(vp(-18.0)))) < 1e-6,
            "{solver:?}"
        );
    }
    let straight = [Solver::Heun, Solver::Ipndm { order: 4 }];
    for solver in first_order.into_iter().chain(straight) {
        let nearly = run(solver, &flows(1.0 - 1e-8));
        assert!(
            distance(&run(solver, &flows(1.0)), &nearly) < 1e-6,
            "{solver:?}"
        );
    }
}

#[test]
fn a_model_is_sampled_alike_whatever_its_scaling() {
    let edm = |level: Level| Level {
        alpha: 1.0,
        sigma: level.sigma / level.alpha,
        ..level
    };
    let levels = [-1.5, -0.9, -0.1, 0.5, 1.1, 1.6].map(vp);
    for solver in solvers() {
        let scaled: Vec<f64> = START.iter().map(|v| v / levels[0].alpha).collect();
        let (sample, _) = run_from(solver, &levels.map(edm), &scaled, 1);
        let back: Vec<f64> = sample.iter().map(|v| v * levels[5].alpha).collect();
        assert!(distance(&back, &run(solver, &levels)) < 1e-13, "{solver:?}");
    }
}

#[test]
fn an_error_of_the_denoiser_ends_the_run() {
    let levels = [-1.5, -0.9, -0.1, 0.5, 1.1].map(vp);
    for solver in solvers() {
        for failing in 1..=solver.evaluations(&levels) {
            let mut calls = 0;
            let ran = sample(
                solver,
                &levels,
                START.to_vec(),
                &mut tree(1),
                &mut |x: &Vec<f64>, _: &Level| {
                    calls += 1;
                    if calls == failing {
                        Err(failing)
                    } else {
                        Ok(x.clone())
                    }
                },
            );
            assert_eq!((ran, calls), (Err(failing), failing), "{solver:?}");
        }
    }
}

#[test]
fn orders_outside_a_solvers_range_are_refused() {
    let levels = [vp(0.0), Level::CLEAN];
    for solver in [
        unipc(0),
        unipc(4),
        Solver::Deis { order: 4 },
        Solver::Ipndm { order: 5 },
    ] {
        assert!(
            std::panic::catch_unwind(|| run(solver, &levels)).is_err(),
            "{solver:?}"
        );
    }
}

#[test]
fn predictions_of_one_state_agree() {
    use fewstep::schedule::Prediction;
    let level = vp(0.4);
    let (x0, noise) = (vec![0.3, -1.2], vec![0.8, 0.1]);
    let of = |a: f64, b: f64| -> Vec<f64> {
        x0.iter()
            .zip(&noise)
            .map(|(x0, e)| a * x0 + b * e)
            .collect()
    };
    let x = of(level.alpha, level.sigma);
    for (kind, output) in [
        (Prediction::Epsilon, of(0.0, 1.0)),
        (Prediction::VPrediction, of(-level.sigma, level.alpha)),
        (Prediction::Sample, of(1.0, 0.0)),
        (Prediction::FlowPrediction, of(-1.0, 1.0)),
    ] {
        let clean = prediction::clean(kind, &output, &x, &level);
        assert!(distance(&clean, &x0) < 1e-14, "{kind:?}: {clean:?}");
    }
    assert!(distance(&prediction::noise(&x, &x0, &level), &noise) < 1e-14);
}

/// Mean distance over paths between runs of `n` steps and of 2048, on the same paths or on others.
fn path_error(solver: Solver, n: u32, same_path: bool) -> f64 {
    let levels = |n: u32| -> Vec<Level> {
        let lambda = |k| -1.5 + 3.0 * f64::from(k) / f64::from(n);
        (0..=n).map(|k| vp(lambda(k))).collect()
    };
    let paths = 24;
    let apart = (0..paths).map(|seed| {
        let coarse = run_from(
            solver,
            &levels(n),
            &START,
            if same_path { seed } else { 1000 + seed },
        );
        distance(&coarse.0, &run_from(solver, &levels(2048), &START, seed).0)
    });
    apart.sum::<f64>() / paths as f64
}

#[test]
fn finer_schedules_follow_the_same_path() {
    for solver in [Solver::EulerAncestral, Solver::SdeDpmpp2m] {
        let [coarse, fine] = [8, 64].map(|n| path_error(solver, n, true));
        let other = path_error(solver, 64, false);
        assert!(fine < 0.25 * coarse, "{solver:?}: {coarse} then {fine}");
        assert!(
            fine < 0.05 * other,
            "{solver:?}: {fine}, another path {other}"
        );
    }
}

#[test]
fn a_seed_is_a_path() {
    let levels = [vp(-1.5), vp(0.0), vp(1.0), Level::CLEAN];
    for solver in [Solver::EulerAncestral, Solver::SdeDpmpp2m] {
        let of = |seed| run_from(solver, &levels, &START, seed).0;
        assert_eq!(of(3), of(3));
        assert!(distance(&of(3), &of(4)) > 0.01, "{solver:?}");
    }
}
