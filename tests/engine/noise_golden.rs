//! Noise schedules against diffusers' own tables, written by `golden/make_noise.py` with the real package.

use fewstep::api::{Known, NoiseFields, resolve};
use fewstep::schedule::NoiseSchedule;
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    name: String,
    noise: serde_json::Value,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    t: f64,
    /// Null where the noise level is infinite.
    sigma: Option<f64>,
    timestep: f64,
}

/// How far a noise level may be from diffusers', relatively. It multiplies up to 1100 float32 factors, which leaves up to
/// 1e-4, and its float32 `alpha_bar` (rounded at 6e-8) loses digits of a small noise level: `1 - alpha_bar` is
/// `sigma^2 / (1 + sigma^2)`.
fn tolerance(sigma: f64) -> f64 {
    1e-4 + 6e-8 * (1.0 + sigma * sigma) / (sigma * sigma)
}

/// The noise schedule as a request for it is read.
fn compiled(noise: &serde_json::Value) -> NoiseSchedule {
    let request = serde_json::json!({"model": {"noise": noise}, "solver": "unipc", "nfe": 5});
    let request = serde_json::from_value(request).unwrap();
    let fields: NoiseFields = resolve(&request, &Known::default()).unwrap().noise;
    NoiseSchedule::new(&fields.spec()).unwrap()
}

#[test]
fn sigmas_and_timesteps_are_diffusers() {
    let tables: Vec<Table> =
        serde_json::from_str(include_str!("golden/noise_diffusers.json")).unwrap();
    assert_eq!(tables.len(), 12);
    for table in &tables {
        let noise = compiled(&table.noise);
        assert!(table.rows.len() >= 20);
        for row in &table.rows {
            let lambda = noise.lambda(row.t);
            let Some(want) = row.sigma else {
                assert!(lambda.is_infinite() && row.t == 1.0, "{}", table.name);
                continue;
            };
            let sigma = noise.sigma(lambda);
            assert!(
                (sigma / want - 1.0).abs() < tolerance(want),
                "{} at t = {}: sigma {sigma}, diffusers {want}",
                table.name,
                row.t
            );
            let timestep = noise.timestep(row.t);
            assert!(
                (timestep - row.timestep).abs() < 1e-4 * row.timestep.abs().max(1.0),
                "{} at t = {}: timestep {timestep}, diffusers {}",
                table.name,
                row.t,
                row.timestep
            );
        }
    }
}
