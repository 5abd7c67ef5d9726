//! The search against SciPy's: every golden row's settings must reach its fitness, and its timesteps where no
//! penalty is active. The rows come from `benches/reference/hso_scipy.py golden`.

use fewstep::hso::{Bounds, Method, Outcome, Problem, search};
use fewstep::objective::Objective;
use fewstep::objective::mep::Mep;
use fewstep::objective::unipc_bound::UniPcBound;
use fewstep::objective::unipc_midpoint::UniPcMidpoint;
use fewstep::schedule::{NoiseSchedule, NoiseSpec, Terminal, VpTable};
use serde::Deserialize;
use std::sync::atomic::AtomicBool;

#[derive(Deserialize)]
struct Row {
    objective: Option<String>,
    gamma: Option<f64>,
    beta_start: f64,
    beta_end: f64,
    nfe: usize,
    points: String,
    t: Vec<f64>,
    fitness: f64,
    penalty: f64,
    d_min: f64,
}

fn solve(row: &Row) -> Outcome {
    let table = VpTable::scaled_linear(row.beta_start, row.beta_end, 1000);
    let noise = NoiseSchedule::new(&NoiseSpec::Vp(table)).unwrap();
    let objective: Box<dyn Objective> = match row.objective.as_deref() {
        None => Box::new(Mep::new(2.0)),
        Some("unipc-bound") => Box::new(UniPcBound::new(2.0, 3)),
        Some("unipc-midpoint") => Box::new(UniPcMidpoint::new(2.0, 3)),
        Some(other) => panic!("unknown objective {other}"),
    };
    let terminal = match row.points.as_str() {
        "nfe" => Terminal::Denoise,
        _ => Terminal::TMin,
    };
    let problem = Problem {
        bounds: Bounds::PUBLISHED.clipped(&noise).unwrap(),
        noise,
        nfe: row.nfe,
        points: terminal.points(row.nfe),
        terminal,
        objective,
        method: Method::Hso,
        gamma: row.gamma.unwrap_or(1e9),
        d_min: None,
        population: 20,
        generations: 60,
        tolerance: 0.01,
        seed: 66,
    };
    let outcome = search(&problem, &AtomicBool::new(false), |_| {}).unwrap();
    assert!((outcome.required - row.d_min).abs() < 1e-12);
    outcome
}

fn check(row: &Row, slack: f64) {
    let start = std::time::Instant::now();
    let outcome = solve(row);
    let took = start.elapsed();
    let fitness = outcome.objective + outcome.penalty;
    println!(
        "{:?} nfe {} {}: {fitness:.9} (SciPy {:.9}) in {took:?}, {} evaluations {:?} {:?}",
        row.objective,
        row.nfe,
        row.points,
        row.fitness,
        outcome.evaluations,
        outcome.psi,
        outcome
            .schedule
            .t()
            .iter()
            .map(|t| (t * 10000.).round() / 10. - 1.)
            .collect::<Vec<_>>()
    );
    assert!(
        fitness <= row.fitness * (1.0 + slack),
        "nfe {} {}: fitness {fitness} above SciPy's {}",
        row.nfe,
        row.points,
        row.fitness
    );
    let t = outcome.schedule.t();
    assert!(t.windows(2).all(|pair| pair[0] > pair[1]));
    assert!(t[0] <= 1.0 && t[t.len() - 1] >= 0.01);
    if row.penalty == 0.0 && row.objective.is_none() {
        for (ours, scipy) in t.iter().zip(&row.t) {
            assert!(
                (ours - scipy).abs() * 1000.0 <= 1.0,
                "{t:?} against {:?}",
                row.t
            );
        }
    }
}

#[test]
fn mep_searches_reach_scipys_fitness() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("golden/hso_scipy.json")).unwrap();
    assert_eq!(rows.len(), 14);
    for row in &rows {
        check(row, 1e-6);
    }
}

#[test]
fn bound_searches_reach_scipys_fitness() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("golden/hso_scipy_bounds.json")).unwrap();
    assert_eq!(rows.len(), 5);
    for row in &rows {
        check(row, 0.01);
    }
}
