//! Schedules side by side: the optimised one, every rule, and lists of noise levels a user brings.
//!
//! Proxy values say how a search sees the schedules, not how a model samples with them; where the request calibrates, every row
//! has its measured error too.

use super::answer::{proxy, rules_beside};
use super::{DEFAULT_P, OptimizeError, answered};
use crate::api::{
    Comparison, ComparisonRow, Effective, GivenSigmas, InvalidField, JobProgress, Plan,
    ScheduleDocument,
};
use crate::denoiser::Models;
use crate::schedule::{NoiseError, NoiseSchedule, Schedule, Terminal};
use std::sync::atomic::AtomicBool;

/// Reads lists of a user's own for a request: their names and half log-SNRs. A calibration measures schedules that cost the same.
pub fn given_lambdas(
    given: &[&GivenSigmas],
    effective: &Effective,
) -> Result<Vec<(String, Vec<f64>)>, InvalidField> {
    let wrong = |error: NoiseError| InvalidField::new("/request/model", error.to_string());
    let noise = NoiseSchedule::new(&effective.noise.spec()).map_err(wrong)?;
    let points = effective.solver.points(Terminal::Denoise, effective.nfe);
    given
        .iter()
        .enumerate()
        .map(|(i, list)| {
            let pointer = format!("/given/{i}");
            let lambdas = lambdas_of(list, &noise, &pointer)?;
            if effective.calibrate.is_some() && points != Ok(lambdas.len()) {
                let detail = format!(
                    "has {} noise levels above 0, and measured schedules all cost {} evaluations: {}",
                    lambdas.len(),
                    effective.nfe.get(),
                    match &points {
                        Ok(points) => format!("give {points}"),
                        Err(error) => error.detail.clone(),
                    }
                );
                return Err(InvalidField::new(format!("{pointer}/sigmas"), detail));
            }
            Ok((list.name.clone(), lambdas))
        })
        .collect()
}

/// Checks a user's noise levels: half log-SNRs of the finite ones, which must fall strictly inside the model's range.
fn lambdas_of(
    given: &GivenSigmas,
    noise: &NoiseSchedule,
    pointer: &str,
) -> Result<Vec<f64>, InvalidField> {
    let levels = match given.sigmas.as_slice() {
        [rest @ .., last] if *last == 0.0 => rest,
        all => all,
    };
    if levels.is_empty() {
        return Err(InvalidField::new(
            format!("{pointer}/sigmas"),
            "needs at least one noise level above 0",
        ));
    }
    let (low, high) = noise.t_range();
    // Published tables are rounded, so the ends get a little room.
    let most = noise.sigma(noise.lambda(high)) * (1.0 + 1e-3);
    let least = noise.sigma(noise.lambda(low)) * (1.0 - 1e-3);
    let mut previous = f64::INFINITY;
    for (i, &sigma) in levels.iter().enumerate() {
        if !(sigma >= least && sigma <= most && sigma < previous) {
            return Err(InvalidField::new(
                format!("{pointer}/sigmas/{i}"),
                format!(
                    "noise levels must fall strictly between {most} and {least}; only the last may be 0"
                ),
            ));
        }
        previous = sigma;
    }
    Ok(levels
        .iter()
        .map(|&sigma| noise.lambda_of_sigma(sigma))
        .collect())
}

/// Scores the optimised schedule, the rules and the given lists; measures them instead where the request calibrates.
pub fn compare(
    effective: &Effective,
    given: &[(String, Vec<f64>)],
    models: &Models,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&JobProgress),
) -> Result<Comparison, OptimizeError> {
    let schedule = answered(effective, given, models, stop, observe)?;
    let noise = NoiseSchedule::new(&effective.noise.spec())?;
    Ok(if effective.calibrate.is_some() {
        measured(schedule, effective, &noise)
    } else {
        scored(schedule, given, &noise, exponent(effective))
    })
}

/// Exponent of the proxy that a request's answer is scored by.
fn exponent(effective: &Effective) -> f64 {
    match &effective.plan {
        Plan::Hso(search) | Plan::HsoConstrained(search) => search.p,
        Plan::Published { .. } => DEFAULT_P,
    }
}

/// A calibrated schedule beside everything it was measured with, best first.
#[must_use]
pub fn measured(
    schedule: ScheduleDocument,
    effective: &Effective,
    noise: &NoiseSchedule,
) -> Comparison {
    let p = exponent(effective);
    let candidates = schedule.calibration.iter().flat_map(|c| &c.candidates);
    let rows = candidates
        .map(|candidate| {
            let lambdas: Vec<f64> = candidate
                .sigmas
                .iter()
                .map(|&sigma| noise.lambda_of_sigma(sigma))
                .collect();
            ComparisonRow {
                solver: Some(candidate.solver),
                terminal: Some(candidate.terminal),
                error: Some(candidate.error),
                ..row(noise, p, candidate.name.clone(), Some(lambdas), None)
            }
        })
        .collect();
    Comparison { schedule, rows }
}

/// The schedule, the rules and the given lists under the proxy.
fn scored(
    schedule: ScheduleDocument,
    given: &[(String, Vec<f64>)],
    noise: &NoiseSchedule,
    p: f64,
) -> Comparison {
    let lambdas: Vec<f64> = schedule.lambdas.iter().copied().flatten().collect();
    let name = schedule.method.as_str().to_owned();
    let mut rows = vec![row(
        noise,
        p,
        name,
        Some(lambdas.clone()),
        Some(lambdas.clone()),
    )];
    let points = lambdas.len();
    let ends = (noise.t(lambdas[0]), noise.t(lambdas[points - 1]));
    let beside = rules_beside(noise, schedule.timesteps.len(), points, ends);
    rows.extend(
        beside.map(|(rule, native, matched)| row(noise, p, rule.name.to_owned(), native, matched)),
    );
    for (name, lambdas) in given {
        rows.push(row(noise, p, name.clone(), Some(lambdas.clone()), None));
    }
    Comparison { schedule, rows }
}

fn row(
    noise: &NoiseSchedule,
    p: f64,
    name: String,
    native: Option<Vec<f64>>,
    matched: Option<Vec<f64>>,
) -> ComparisonRow {
    let smallest_gap = native.as_ref().and_then(|lambdas| {
        Schedule::from_lambdas(noise, lambdas.clone(), Terminal::Denoise)
            .ok()
            .and_then(|schedule| schedule.gaps().reduce(f64::min))
    });
    ComparisonRow {
        name,
        solver: None,
        terminal: None,
        error: None,
        sigmas: native
            .as_ref()
            .map(|lambdas| lambdas.iter().map(|&l| noise.sigma(l)).collect()),
        smallest_gap,
        mep_native: native.map(|lambdas| proxy(noise, p, &lambdas)),
        mep_matched: matched.map(|lambdas| proxy(noise, p, &lambdas)),
    }
}
