//! What a pipeline does with prompts: tokens, and one or two CLIP text encoders (arXiv 2103.00020).
//!
//! One encoder gives its normalised last layer (Stable Diffusion 1 and 2). Two give the layers before their last, joined, and the second
//! one's pooled output (Stable Diffusion XL). They run once a job and in f32 on every device.

mod config;
mod encoder;
mod tokenizer;

pub use tokenizer::Tokenizer;

use super::files::TextFiles;
use super::weights::Weights;
use super::{Batch, Device, LoadError, Precision};
use candle_core::{Result, Tensor};
use config::TextConfig;
use encoder::Encoder;

/// The parts of a pipeline, for errors.
const PARTS: [&str; 2] = ["text_encoder", "text_encoder_2"];

/// Encoded prompts, in their order.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[channels, tokens]` each.
    pub context: Batch,
    /// Numbers for a prompt as a whole; where there are two encoders.
    pub pooled: Option<Batch>,
}

/// The text side of a pipeline.
pub struct TextEncoders {
    encoders: Vec<(Tokenizer, Encoder)>,
}

impl TextEncoders {
    /// Builds one encoder or two on a device.
    pub fn load(files: &[TextFiles], device: Device) -> std::result::Result<Self, LoadError> {
        let opened = device.open()?;
        let load = |files: &TextFiles| {
            let config = TextConfig::parse(&files.encoder.config)?;
            let weights = Weights::open(&files.encoder.weights, &opened, Precision::F32)?;
            let tokenizer = Tokenizer::new(&files.tokenizer)?;
            if tokenizer.tokens() > config.max_position_embeddings {
                let detail = format!("is less than the tokenizer's {}", tokenizer.tokens());
                return Err(LoadError::config("max_position_embeddings", detail));
            }
            Ok((tokenizer, Encoder::load(config, weights)?))
        };
        let encoders = files
            .iter()
            .zip(PARTS)
            .map(|(files, part)| load(files).map_err(LoadError::of_part(part)))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        if let [.., (_, last)] = &encoders[..]
            && encoders.len() > 1
            && !last.projects()
        {
            let detail = "`CLIPTextModel` has no pooled output; CLIPTextModelWithProjection has";
            let error = LoadError::config("architectures", detail);
            return Err(LoadError::of_part(PARTS[1])(error));
        }
        Ok(Self { encoders })
    }

    /// Channels of the context.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.encoders
            .iter()
            .map(|(_, encoder)| encoder.channels())
            .sum()
    }

    /// Encodes prompts, one at a time.
    ///
    /// # Panics
    /// Without any.
    pub fn encode(&self, prompts: &[String]) -> std::result::Result<Encoded, LoadError> {
        let mut contexts = Vec::with_capacity(prompts.len());
        let mut pooled = Vec::new();
        for prompt in prompts {
            let (context, whole) = self.encode_one(prompt)?;
            contexts.push(context);
            pooled.extend(whole);
        }
        Ok(Encoded {
            context: Batch::concat(&contexts),
            pooled: (!pooled.is_empty()).then(|| Batch::concat(&pooled)),
        })
    }

    fn encode_one(&self, prompt: &str) -> std::result::Result<(Batch, Option<Batch>), LoadError> {
        let batch = |tensor: &Tensor| -> Result<Batch> {
            Ok(Batch::new(tensor.flatten_all()?.to_vec1()?, 1))
        };
        if let [(tokenizer, encoder)] = &self.encoders[..] {
            let layers = encoder.forward(&tokenizer.encode(prompt)?)?;
            return Ok((batch(&layers.normed)?, None));
        }
        let mut contexts = Vec::with_capacity(self.encoders.len());
        let mut pooled = None;
        for (tokenizer, encoder) in &self.encoders {
            let tokens = tokenizer.encode(prompt)?;
            let layers = encoder.forward(&tokens)?;
            contexts.push(layers.penultimate.clone());
            if encoder.projects() {
                pooled = Some(batch(&encoder.pooled(&layers, &tokens)?)?);
            }
        }
        Ok((batch(&Tensor::cat(&contexts, 1)?)?, pooled))
    }
}
