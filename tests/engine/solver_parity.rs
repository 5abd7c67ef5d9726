//! Samplers against diffusers' own schedulers: every run of `golden/diffusers_schedulers.json`, which
//! `tests/diffusers/schedulers.py` writes with the real package. In f64 only rounding may differ; f32 states are rounded at
//! every step.

use crate::mixture::Mixture;
use fewstep::schedule::Prediction;
use fewstep::solver::{Brownian, Level, Solver, Space, Variant, prediction, sample};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;

#[derive(Deserialize)]
struct Golden {
    mixture: Mixture,
    schedules: BTreeMap<String, Schedule>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Schedule {
    /// Timestep, alpha and sigma of each.
    levels: Vec<(f64, f64, f64)>,
    start: Vec<f64>,
    noises: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Run {
    schedule: String,
    solver: Named,
    prediction: Prediction,
    scheduler: String,
    sample: Vec<f64>,
}

#[derive(Deserialize, Debug, Clone, Copy)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Named {
    Ddim,
    Heun,
    Dpmpp2m,
    Dpmpp3m,
    Unipc {
        order: usize,
        variant: NamedVariant,
        corrector: bool,
    },
    Deis {
        order: usize,
    },
    Ipndm {
        order: usize,
    },
    EulerAncestral,
    SdeDpmpp2m,
}

#[derive(Deserialize, Debug, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum NamedVariant {
    Bh1,
    Bh2,
}

impl From<Named> for Solver {
    fn from(named: Named) -> Self {
        match named {
            Named::Ddim => Self::Ddim,
            Named::Heun => Self::Heun,
            Named::Dpmpp2m => Self::Dpmpp2m,
            Named::Dpmpp3m => Self::Dpmpp3m,
            Named::Unipc {
                order,
                variant,
                corrector,
            } => Self::Unipc {
                order,
                variant: match variant {
                    NamedVariant::Bh1 => Variant::Bh1,
                    NamedVariant::Bh2 => Variant::Bh2,
                },
                corrector,
            },
            Named::Deis { order } => Self::Deis { order },
            Named::Ipndm { order } => Self::Ipndm { order },
            Named::EulerAncestral => Self::EulerAncestral,
            Named::SdeDpmpp2m => Self::SdeDpmpp2m,
        }
    }
}

/// The noise that diffusers was given, in its order.
struct Recorded<X>(std::vec::IntoIter<X>);

impl<X> Brownian<X> for Recorded<X> {
    fn noise(&mut self, _: &Level, _: &Level) -> X {
        self.0.next().expect("a run asks for no more noise")
    }
}

/// States of both precisions.
trait State: Space {
    fn from_f64(values: &[f64]) -> Self;
    fn to_f64(&self) -> Vec<f64>;
}

impl State for Vec<f64> {
    fn from_f64(values: &[f64]) -> Self {
        values.to_vec()
    }
    fn to_f64(&self) -> Vec<f64> {
        self.clone()
    }
}

impl State for Vec<f32> {
    fn from_f64(values: &[f64]) -> Self {
        values.iter().map(|&v| v as f32).collect()
    }
    fn to_f64(&self) -> Vec<f64> {
        self.iter().copied().map(f64::from).collect()
    }
}

/// What a network of this kind says where the clean image is `x0`.
fn network(kind: Prediction, x: &[f64], x0: &[f64], level: &Level) -> Vec<f64> {
    let (alpha, sigma) = (level.alpha, level.sigma);
    let of = |x: f64, x0: f64| {
        let noise = (x - alpha * x0) / sigma;
        match kind {
            Prediction::Epsilon => noise,
            Prediction::VPrediction => alpha * noise - sigma * x0,
            Prediction::Sample => x0,
            Prediction::FlowPrediction => noise - x0,
            Prediction::Edm => {
                let norm = sigma * sigma + 0.25;
                (x0 - 0.25 / norm * x) / (0.5 * sigma / libm::sqrt(norm))
            }
        }
    };
    x.iter().zip(x0).map(|(&x, &x0)| of(x, x0)).collect()
}

/// Runs one and returns its largest error, relative to its largest number.
fn error<X: State>(run: &Run, schedule: &Schedule, mixture: &Mixture) -> f64 {
    let levels: Vec<Level> = schedule
        .levels
        .iter()
        .map(|&(timestep, alpha, sigma)| Level {
            timestep,
            alpha,
            sigma,
        })
        .collect();
    let noises: Vec<X> = schedule.noises.iter().map(|n| X::from_f64(n)).collect();
    let mut calls = 0;
    let ran: Result<X, Infallible> = sample(
        run.solver.into(),
        &levels,
        X::from_f64(&schedule.start),
        &mut Recorded(noises.into_iter()),
        &mut |x, level| {
            calls += 1;
            let wide = x.to_f64();
            let output = network(run.prediction, &wide, &mixture.clean(&wide, level), level);
            Ok(prediction::clean(
                run.prediction,
                &X::from_f64(&output),
                x,
                level,
            ))
        },
    );
    assert_eq!(calls, Solver::from(run.solver).evaluations(&levels));
    let Ok(ours) = ran;
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(
            0.0_f64,
            |most, v| if v.is_nan() { v } else { most.max(v.abs()) },
        )
    };
    let apart = ours.to_f64();
    largest(&mut apart.iter().zip(&run.sample).map(|(a, b)| a - b))
        / largest(&mut run.sample.iter().copied())
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/diffusers_schedulers.json")).unwrap()
}

/// Every run within `tolerance`; prints the worst of each solver.
fn agree<X: State>(tolerance: f64) {
    let golden = golden();
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    let mut failures = Vec::new();
    for run in &golden.runs {
        let error = error::<X>(run, &golden.schedules[&run.schedule], &golden.mixture);
        let most = worst.entry(format!("{:?}", run.solver)).or_default();
        *most = most.max(error);
        // Written so that a NaN fails.
        if !matches!(
            error.partial_cmp(&tolerance),
            Some(std::cmp::Ordering::Less)
        ) {
            failures.push(format!(
                "{:?} on {} ({:?}): {error:e} from {}",
                run.solver, run.schedule, run.prediction, run.scheduler
            ));
        }
    }
    for (solver, error) in worst {
        println!("{error:8.1e} {solver}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn runs_are_diffusers_in_f64() {
    agree::<Vec<f64>>(1e-6);
}

#[test]
fn runs_are_diffusers_in_f32() {
    agree::<Vec<f32>>(1e-4);
}

#[test]
fn every_solver_is_compared() {
    let runs = golden().runs;
    let of = |wanted: &dyn Fn(Named) -> bool| runs.iter().filter(|run| wanted(run.solver)).count();
    assert!(of(&|s| matches!(s, Named::Ddim)) >= 10);
    assert!(of(&|s| matches!(s, Named::Heun)) >= 10);
    assert!(of(&|s| matches!(s, Named::Dpmpp2m)) >= 10);
    assert!(of(&|s| matches!(s, Named::Dpmpp3m)) >= 10);
    assert!(of(&|s| matches!(s, Named::EulerAncestral)) >= 8);
    assert!(of(&|s| matches!(s, Named::SdeDpmpp2m)) >= 10);
    for wanted in 1..=3 {
        assert!(of(&|s| matches!(s, Named::Unipc { order, .. } if order == wanted)) >= 20);
        assert!(of(&|s| matches!(s, Named::Deis { order } if order == wanted)) >= 8);
    }
    for wanted in 1..=4 {
        assert!(of(&|s| matches!(s, Named::Ipndm { order } if order == wanted)) >= 6);
    }
}
