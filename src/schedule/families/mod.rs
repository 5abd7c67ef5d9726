//! The built-in models: their noise schedules, native sizes and predictions, each with its source.
//!
//! Data lives in [`vp`] (discrete, continuous and EDM noise), [`flow`], [`distilled`] and [`built_in`] (with denoisers). A distilled model carries the
//! schedule it was trained for, which is answered instead of a search. Consumers ship different default shifts for one
//! model; the figures here are the model's own configuration, and a request can override the shift.

mod built_in;
mod distilled;
mod flow;
mod published;
mod vp;

pub use published::Published;

use super::shift::Shift;
use super::spec::{NoiseError, NoiseSpec, Prediction};

/// A built-in model.
#[derive(Debug)]
pub struct Family {
    /// Name in paths and requests.
    pub id: &'static str,
    pub title: &'static str,
    pub noise: FamilyNoise,
    pub prediction: Prediction,
    /// Native image size in pixels, (width, height); for points their dimension and 1.
    pub resolution: (u32, u32),
    /// Distilled models: the schedules they were trained for.
    pub published: Option<Published>,
    /// Where the figures come from.
    pub source: &'static str,
}

/// A family's noise: fixed, or flow matching with a shift.
#[derive(Debug)]
pub enum FamilyNoise {
    Fixed(NoiseSpec),
    Flow(Shift),
}

/// Training timesteps of every flow-matching family.
const FLOW_STEPS: u32 = 1000;

impl Family {
    /// The noise schedule at an image size (native by default) or an explicit shift; refuses what the family has none of.
    pub fn noise_spec(
        &self,
        width: Option<u32>,
        height: Option<u32>,
        shift: Option<f64>,
    ) -> Result<NoiseSpec, NoiseError> {
        let refuse = |field, given: bool, detail: &str| {
            if given {
                Err(NoiseError::new(field, detail))
            } else {
                Ok(())
            }
        };
        let is_dynamic = matches!(self.noise, FamilyNoise::Flow(Shift::Dynamic(_)));
        if !is_dynamic || shift.is_some() {
            let detail =
                "the noise of this model does not depend on the image size here: remove it";
            refuse("width", width.is_some(), detail)?;
            refuse("height", height.is_some(), detail)?;
        }
        match &self.noise {
            FamilyNoise::Fixed(spec) => {
                let detail = "only flow-matching models have a shift: remove it";
                refuse("shift", shift.is_some(), detail)?;
                Ok(spec.clone())
            }
            FamilyNoise::Flow(own) => {
                let (native_width, native_height) = self.resolution;
                let (width, height) = (
                    width.unwrap_or(native_width),
                    height.unwrap_or(native_height),
                );
                for (field, pixels) in [("width", width), ("height", height)] {
                    if !(16..=16_384).contains(&pixels) {
                        return Err(NoiseError::new(field, "must be from 16 to 16384 pixels"));
                    }
                }
                Ok(NoiseSpec::Flow {
                    shift: shift.unwrap_or_else(|| own.at(width, height)),
                    steps: FLOW_STEPS,
                })
            }
        }
    }
}

/// Every built-in model.
pub fn all() -> impl Iterator<Item = &'static Family> {
    vp::FAMILIES
        .iter()
        .chain(flow::FAMILIES)
        .chain(distilled::FAMILIES)
        .chain(built_in::FAMILIES)
}

/// The model of an id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Family> {
    all().find(|family| family.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::NoiseSchedule;

    #[test]
    fn ids_are_unique_and_fit_in_paths() {
        let ids: Vec<&str> = all().map(|family| family.id).collect();
        for (i, id) in ids.iter().enumerate() {
            assert!(!ids[..i].contains(id), "{id} twice");
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            assert!(
                id.chars().all(allowed) && !id.starts_with(['.', '-']),
                "{id}"
            );
        }
        assert!(ids.len() >= 25, "{}", ids.len());
    }

    #[test]
    fn every_family_compiles_and_names_its_source() {
        for family in all() {
            let spec = family.noise_spec(None, None, None).unwrap();
            let noise = NoiseSchedule::new(&spec).unwrap();
            let (low, high) = noise.t_range();
            assert!(noise.lambda(low) > noise.lambda(high), "{}", family.id);
            assert!(family.source.len() > 10 && !family.title.is_empty());
            assert!(family.resolution.0 >= 2);
            assert_eq!(
                noise.is_flow(),
                family.prediction == Prediction::FlowPrediction
            );
        }
    }

    #[test]
    fn noise_ends_are_the_published_ones() {
        // sigma at the first and last training timestep, from the models' own tables.
        let ends = [
            ("sd-v1.5", 0.029_167_2, 14.614_641),
            ("sdxl", 0.029_167_2, 14.614_641),
            ("dit-xl-2", 0.010_000_5, 157.407),
            ("ldm-lsun-bedroom", 0.038_758_9, 83.822_5),
            ("kolors", 0.029_167_2, 29.061_2),
            ("hunyuan-dit-v1.1", 0.029_167_2, 419.88),
            ("hunyuan-dit-v1.2", 0.029_167_2, 45.38),
            ("edm-cifar10", 0.002, 80.0),
            ("svd", 0.002, 700.0),
            ("vp-sde-cifar10", 0.010_486, 152.167),
        ];
        for (id, least, most) in ends {
            let spec = find(id).unwrap().noise_spec(None, None, None).unwrap();
            let noise = NoiseSchedule::new(&spec).unwrap();
            let (low, high) = noise.t_range();
            for (t, want) in [(low, least), (high, most)] {
                let got = noise.sigma(noise.lambda(t));
                assert!((got / want - 1.0).abs() < 1e-4, "{id}: {got} not {want}");
            }
        }
    }

    #[test]
    fn a_shift_follows_the_image_size_or_the_request() {
        let flux = find("flux-dev").unwrap();
        let shift = |width, height, shift| match flux.noise_spec(width, height, shift) {
            Ok(NoiseSpec::Flow { shift, .. }) => shift,
            other => panic!("{other:?}"),
        };
        assert!((shift(None, None, None) - libm::exp(1.15)).abs() < 1e-12);
        assert!((shift(Some(512), Some(512), None) - libm::exp(0.63)).abs() < 1e-12);
        assert_eq!(shift(None, None, Some(2.0)), 2.0);
        let sized = find("sd-v1.5").unwrap().noise_spec(Some(512), None, None);
        assert_eq!(sized.unwrap_err().field, "width");
        let shifted = find("sd-v1.5").unwrap().noise_spec(None, None, Some(3.0));
        assert_eq!(shifted.unwrap_err().field, "shift");
    }
}
