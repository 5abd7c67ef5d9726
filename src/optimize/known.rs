//! What is known about the model a request names: the noise of one that is not built in, and the denoiser a calibration needs.

use crate::api::{DenoiserFacts, Known, NoiseFields, OptimizeRequest};
use crate::denoiser::{Description, LoadError};
use crate::schedule::families;

/// The model whose denoiser must be described before a request can be read. A `registered` model is its noise alone, and stands
/// before a folder of the same name.
#[must_use]
pub fn asks_for_denoiser<'a>(
    request: &'a OptimizeRequest,
    registered: Option<&NoiseFields>,
) -> Option<&'a str> {
    let id = request.model_id()?;
    let is_needed = request.calibrate.is_some() || families::find(id).is_none();
    (registered.is_none() && is_needed).then_some(id)
}

/// What is known, from a denoiser's description and a registration.
pub fn known(
    description: Option<Description>,
    registered: Option<NoiseFields>,
) -> Result<Known, LoadError> {
    let Some(description) = description else {
        return Ok(Known {
            noise: registered,
            denoiser: None,
        });
    };
    Ok(Known {
        noise: noise_of(&description)?,
        denoiser: Some(DenoiserFacts {
            // A class-conditional network keeps its last class for no class.
            guidable: description.classes > 0,
            classes: description.classes,
            weights: description.weights,
        }),
    })
}

/// The noise a folder's scheduler describes; none for built-in denoisers, which are families of their own.
pub fn noise_of(description: &Description) -> Result<Option<NoiseFields>, LoadError> {
    let scheduler = description.scheduler.as_ref();
    let spec = scheduler.map(|scheduler| scheduler.noise_spec(None, None));
    match spec.transpose() {
        Ok(spec) => Ok(spec.as_ref().map(NoiseFields::from)),
        Err(error) => Err(LoadError::Config {
            file: "scheduler_config.json",
            field: error.field.to_string(),
            detail: error.detail,
        }),
    }
}
