//! The search against its SciPy reference, side by side on one core: seconds, ratio and both fitnesses.
//!
//! `cargo bench --bench against_scipy`; needs `python3` (or `PYTHON`) with numpy and scipy.

use fewstep::api::{Known, resolve};
use fewstep::denoiser::Models;
use fewstep::optimize::optimize;
use serde_json::{Value, json};
use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const REPEATS: u32 = 20;

fn main() -> ExitCode {
    println!(
        "{:>4} {:>12} {:>12} {:>9} {:>18} {:>18}",
        "NFE", "SciPy s", "fewstep s", "ratio", "SciPy fitness", "fewstep fitness"
    );
    for nfe in [5, 10] {
        let reference = match scipy(nfe) {
            Ok(reference) => reference,
            Err(error) => {
                eprintln!("error: the SciPy reference did not run: {error}");
                return ExitCode::FAILURE;
            }
        };
        let (seconds, fitness) = ours(nfe);
        let scipy_seconds = reference["seconds"].as_f64().unwrap_or(f64::NAN);
        println!(
            "{nfe:>4} {scipy_seconds:>12.3} {seconds:>12.6} {:>9.0} {:>18.6} {fitness:>18.6}",
            scipy_seconds / seconds,
            reference["fitness"].as_f64().unwrap_or(f64::NAN),
        );
    }
    ExitCode::SUCCESS
}

/// Runs the reference on one thread.
fn scipy(nfe: u32) -> Result<Value, String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python)
        .args(["hso_scipy.py", &nfe.to_string()])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/reference"))
        .envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")])
        .output()
        .map_err(|error| format!("{python}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// Median seconds of a whole answer on one thread, and its fitness.
fn ours(nfe: u32) -> (f64, f64) {
    let request = json!({"model": "sd-v2.1", "solver": "unipc", "nfe": nfe});
    let request = serde_json::from_value(request).expect("a valid request");
    let effective = resolve(&request, &Known::default()).expect("a valid request");
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a thread");
    pool.install(|| {
        let mut runs: Vec<(f64, f64)> = (0..REPEATS)
            .map(|_| {
                let started = Instant::now();
                let (models, never) = (Models::built_in().unwrap(), AtomicBool::new(false));
                let document =
                    optimize(&effective, &models, &never, &mut |_| {}).expect("an answer");
                (started.elapsed().as_secs_f64(), document.fitness.total)
            })
            .collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        runs[runs.len() / 2]
    })
}
