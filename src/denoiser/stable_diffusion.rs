//! Stable Diffusion as a denoiser: the network of a pipeline with prompts that were encoded once, before the job's first batch.
//!
//! To a sampler a prompt is a class: label `i` is the `i`-th prompt, and no label is the negative prompt, which guidance pushes
//! away from. Samples are latents.

use super::conditioned::{ConditionedUnet, Conditions};
use super::files::{NetworkFiles, PipelineFiles};
use super::pictures::{Pictures, are_pixels};
use super::text::{Encoded, TextEncoders};
use super::vae::{self, VaeDecoder};
use super::{Batch, Capacity, Conditioning, Denoiser, DenoiserError, Device, LoadError};
use crate::schedule::Prediction;
use crate::solver::{Level, prediction};
use std::sync::Arc;

/// What samples show, and what they should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    pub positive: Vec<String>,
    /// Without one, the pipeline's own: zeros or the encoding of no words.
    pub negative: Option<String>,
}

/// Prompts as their encoders have them: the positive ones in their order, then the negative one.
pub(super) struct EncodedPrompts {
    /// `[channels, tokens]` each.
    context: Batch,
    channels: usize,
    pooled: Option<Batch>,
}

impl EncodedPrompts {
    pub fn new(
        encoders: &TextEncoders,
        pipeline: &PipelineFiles,
        prompts: &Prompts,
    ) -> Result<Self, LoadError> {
        let zeros = prompts.negative.is_none() && pipeline.zeros_for_no_negative_prompt;
        let negative = prompts.negative.clone().unwrap_or_default();
        let all: Vec<String> = prompts.positive.iter().cloned().chain([negative]).collect();
        let Encoded { context, pooled } = encoders.encode(&all)?;
        let last = |batch: Batch| if zeros { without_last(&batch) } else { batch };
        Ok(Self {
            channels: encoders.channels(),
            context: last(context),
            pooled: pooled.map(last),
        })
    }
}

/// The batch with zeros for its last sample.
fn without_last(batch: &Batch) -> Batch {
    let mut data = batch.data().to_vec();
    let kept = data.len() - batch.size();
    data[kept..].fill(0.0);
    Batch::new(data, batch.samples())
}

/// A pipeline's network with a job's prompts.
pub(super) struct StableDiffusion {
    unet: Arc<ConditionedUnet>,
    prediction: Prediction,
    encoded: EncodedPrompts,
    vae: NetworkFiles,
    device: Device,
    /// Height and width of the images in pixels.
    size: [usize; 2],
}

impl StableDiffusion {
    /// Refuses encodings that are not of the network's size.
    pub fn new(
        unet: Arc<ConditionedUnet>,
        prediction: Prediction,
        encoded: EncodedPrompts,
        pipeline: &PipelineFiles,
        device: Device,
    ) -> Result<Self, LoadError> {
        let scale = vae::scale(&pipeline.vae)?;
        let config = unet.config();
        let expected = config.cross_attention_dim();
        let found = encoded.channels;
        if found != expected {
            let detail = format!("is {expected} where the text encoders give {found} channels");
            return Err(LoadError::config("cross_attention_dim", detail));
        }
        let pooled = encoded.pooled.as_ref().map(Batch::size);
        let wanted = config.text_time.map(|text_time| text_time.pooled);
        if wanted.is_some() && wanted != pooled {
            let detail = "does not go with the text encoders' pooled output";
            let field = "projection_class_embeddings_input_dim";
            return Err(LoadError::config(field, detail));
        }
        if config.num_class_embeds.is_some() {
            let detail = "a pipeline's network with class labels is not supported";
            return Err(LoadError::config("num_class_embeds", detail));
        }
        Ok(Self {
            size: config.sample_size.map(|side| side * scale),
            unet,
            prediction,
            encoded,
            vae: pipeline.vae.clone(),
            device,
        })
    }

    /// What samples with these labels are conditioned on.
    fn conditions(
        &self,
        conditioning: &Conditioning,
        samples: usize,
    ) -> Result<Conditions, DenoiserError> {
        let classes = self.classes();
        let rows = match conditioning {
            Conditioning::None => vec![classes; samples],
            Conditioning::Classes(labels) => labels.clone(),
        };
        if rows.len() != samples {
            return Err(DenoiserError::LabelCount {
                samples,
                found: rows.len(),
            });
        }
        if let Some(&label) = rows.iter().find(|&&row| row > classes) {
            return Err(DenoiserError::Label { label, classes });
        }
        let chosen = |of: &Batch| {
            let one = |&row: &u32| of.slice(row as usize..row as usize + 1);
            Batch::concat(&rows.iter().map(one).collect::<Vec<_>>())
        };
        Ok(Conditions {
            context: chosen(&self.encoded.context),
            pooled: self.encoded.pooled.as_ref().map(chosen),
            labels: None,
        })
    }
}

impl Denoiser for StableDiffusion {
    fn shape(&self) -> &[usize] {
        self.unet.shape()
    }

    /// The prompts, without the negative one.
    fn classes(&self) -> u32 {
        self.encoded.context.samples() as u32 - 1
    }

    fn capacity(&self) -> Capacity {
        self.unet.capacity()
    }

    fn denoise(
        &self,
        x: &Batch,
        level: &Level,
        conditioning: &Conditioning,
    ) -> Result<Batch, DenoiserError> {
        let conditions = self.conditions(conditioning, x.samples())?;
        let timesteps = vec![level.timestep; x.samples()];
        let out = self.unet.predict(x, &timesteps, &conditions, self.size)?;
        Ok(prediction::clean(self.prediction, &out, x, level))
    }

    /// Decoded by the pipeline's VAE, which is there for that alone.
    fn pictures(&self, samples: &Batch) -> Result<Option<Pictures>, DenoiserError> {
        let decoder = VaeDecoder::load(&self.vae, self.device)
            .map_err(LoadError::of_part("vae"))
            .map_err(|error| DenoiserError::Failed(error.to_string()))?;
        let pixels = decoder.decode(samples, self.unet.config().sample_size)?;
        let shape = [decoder.channels(), self.size[0], self.size[1]];
        Ok(are_pixels(shape[0]).then_some(Pictures { shape, pixels }))
    }
}
