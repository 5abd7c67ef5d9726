//! Checks the ranges in a request: plain limits, the upper level's box and the first noise level.

use super::invalid::InvalidField;
use super::model::Model;
use super::request::{BoundsFields, OptimizeRequest};
use crate::hso::{Bounds, MIN_RANGE};
use crate::schedule::NoiseSchedule;

/// A given value inside its limits; NaN is in none.
pub(super) fn within<T: PartialOrd + Copy + std::fmt::Display>(
    value: Option<T>,
    pointer: &str,
    (low, high): (T, T),
    wrong: &mut Vec<InvalidField>,
) -> Option<T> {
    let value = value?;
    if value >= low && value <= high {
        return Some(value);
    }
    wrong.push(InvalidField::new(
        pointer,
        format!("must be from {low} to {high}"),
    ));
    None
}

/// The box to search, clipped to the model's times; what is wrong with it goes to `wrong`.
pub(super) fn resolve_bounds(
    request: &OptimizeRequest,
    model: &Model,
    wrong: &mut Vec<InvalidField>,
) -> Bounds {
    let published = Bounds::PUBLISHED;
    let given = request.bounds.clone().unwrap_or_default();
    let BoundsFields { rho, t_min, t_max } = given;
    let mut bounds = Bounds {
        rho: rho.map_or(published.rho, Into::into),
        t_min: t_min.map_or(published.t_min, Into::into),
        t_max: t_max.map_or(published.t_max, Into::into),
    };
    if let Some(sigma) = request.start_sigma {
        if t_max.is_some() {
            wrong.push(InvalidField::new(
                "/start_sigma",
                "fixes t_max; remove it or /bounds/t_max",
            ));
        }
        match start_time(sigma, &model.noise) {
            Ok(t) => bounds.t_max = (t, t),
            Err(detail) => wrong.push(InvalidField::new("/start_sigma", detail)),
        }
        if bounds.t_max.0 - bounds.t_min.1 < MIN_RANGE {
            wrong.push(InvalidField::new(
                "/start_sigma",
                format!(
                    "is t = {}, too close to t_min's range, which ends at {}: lower /bounds/t_min",
                    bounds.t_max.0, bounds.t_min.1
                ),
            ));
            return bounds;
        }
    }
    bounds.clipped(&model.noise).unwrap_or_else(|error| {
        wrong.push(InvalidField::new(
            format!("/bounds/{}", error.field),
            error.detail,
        ));
        bounds
    })
}

/// The time of a first noise level, inside the model's times.
fn start_time(sigma: f64, noise: &NoiseSchedule) -> Result<f64, String> {
    let (low, high) = noise.t_range();
    let (least, most) = (
        noise.sigma(noise.lambda(low)),
        noise.sigma(noise.lambda(high)),
    );
    if !(sigma >= least && sigma <= most) {
        return Err(format!(
            "must be from {least} to {most}, the noise levels of this model"
        ));
    }
    Ok(noise.t(noise.lambda_of_sigma(sigma)).clamp(low, high))
}
