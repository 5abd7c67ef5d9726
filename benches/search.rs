//! How long searches take, on one core: the published settings at NFE 5 and 10, every objective, and a sweep.
//!
//! `cargo bench --bench search`

use criterion::{Criterion, criterion_group, criterion_main};
use fewstep::api::{Effective, Known, resolve};
use fewstep::denoiser::Models;
use fewstep::optimize::optimize;
use serde_json::json;
use std::hint::black_box;
use std::sync::atomic::AtomicBool;

fn effective(solver: &str, nfe: u32, objective: &str) -> Effective {
    let noise = json!({"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012});
    let request = json!({
        "model": {"noise": noise}, "solver": solver, "nfe": nfe, "objective": objective,
    });
    let request = serde_json::from_value(request).expect("a valid request");
    resolve(&request, &Known::default()).expect("a valid request")
}

fn run(effective: &Effective) {
    let (models, never) = (Models::built_in().unwrap(), AtomicBool::new(false));
    let document = optimize(black_box(effective), &models, &never, &mut |_| {});
    black_box(document.expect("an answer"));
}

fn searches(criterion: &mut Criterion) {
    let one_core = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a thread");
    let mut group = criterion.benchmark_group("search");
    group.sample_size(20);
    for (objective, nfe) in [
        ("mep", 5),
        ("mep", 10),
        ("mep", 64),
        ("unipc-bound", 5),
        ("unipc-midpoint", 5),
    ] {
        let effective = effective("unipc", nfe, objective);
        group.bench_function(format!("{objective}/nfe {nfe}"), |b| {
            b.iter(|| one_core.install(|| run(&effective)));
        });
    }
    let sweep: Vec<Effective> = ["ddim", "unipc", "dpmpp_2m"]
        .into_iter()
        .flat_map(|solver| (3..=20).map(move |nfe| effective(solver, nfe, "mep")))
        .collect();
    group.bench_function("sweep/nfe 3..20, three solvers", |b| {
        b.iter(|| one_core.install(|| sweep.iter().for_each(run)));
    });
    group.finish();
}

criterion_group!(benches, searches);
criterion_main!(benches);
