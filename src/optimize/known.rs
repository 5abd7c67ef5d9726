//! What is known about the model a request names: the noise of one that is not built in, and the denoiser a calibration needs.

use crate::api::{DenoiserFacts, Known, ModelInfo, NoiseFields, OptimizeRequest, RuntimeInfo};
use crate::denoiser::{Description, LoadError, Models};
use crate::schedule::families;

/// The model whose files a request depends on. A `registered` model is its noise alone, and stands before a folder of the same name.
#[must_use]
pub fn asks_for_denoiser<'a>(
    request: &'a OptimizeRequest,
    registered: Option<&NoiseFields>,
) -> Option<&'a str> {
    let id = request.model_id()?;
    let is_needed = request.calibrate.is_some() || families::find(id).is_none();
    (registered.is_none() && is_needed).then_some(id)
}

/// What a request needs to know of its model; reads the weights where a calibration depends on them.
pub fn known(
    request: &OptimizeRequest,
    registered: Option<NoiseFields>,
    models: &Models,
) -> Result<Known, LoadError> {
    let plain = |noise| Known {
        noise,
        denoiser: None,
    };
    let Some(id) = asks_for_denoiser(request, registered.as_ref()) else {
        return Ok(plain(registered));
    };
    let Some(description) = models.describe(id)? else {
        return Ok(plain(None));
    };
    let noise = noise_of(&description)?;
    if request.calibrate.is_none() {
        return Ok(plain(noise));
    }
    Ok(Known {
        noise,
        denoiser: Some(DenoiserFacts {
            weights: models.weights(id)?,
            // A class-conditional network keeps its last class for no class.
            guidable: description.classes > 0,
            classes: description.classes,
            prompted: description.prompted,
            pictures: description.pictures,
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

/// A model with what is known of its denoiser.
#[must_use]
pub fn with_denoiser(model: ModelInfo, description: &Description) -> ModelInfo {
    ModelInfo {
        denoiser: true,
        runtime: description.runtime.as_ref().map(|runtime| RuntimeInfo {
            device: runtime.placement.device.to_string(),
            dtype: runtime.placement.precision.to_string(),
            memory_bytes: runtime.memory,
            loaded: runtime.loaded,
        }),
        prompts: description.prompted.is_some(),
        ..model
    }
}
