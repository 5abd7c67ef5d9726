//! The files a model is made of, found but not yet built.

use super::weights::WeightsFile;

/// A network's files.
#[derive(Clone, Debug)]
pub struct NetworkFiles {
    /// Its `config.json`.
    pub config: Vec<u8>,
    /// One safetensors file, or the parts of one.
    pub weights: Vec<WeightsFile>,
}

/// A text encoder's files.
#[derive(Clone, Debug)]
pub struct TextFiles {
    pub encoder: NetworkFiles,
    pub tokenizer: TokenizerFiles,
}

/// A tokenizer's files.
#[derive(Clone, Debug)]
pub struct TokenizerFiles {
    pub vocabulary: Vocabulary,
    /// Its `tokenizer_config.json`: the padding token and the number of tokens.
    pub config: Vec<u8>,
    /// Its `special_tokens_map.json`, which older ones have.
    pub special_tokens: Option<Vec<u8>>,
}

/// How a tokenizer's vocabulary is stored.
#[derive(Clone, Debug)]
pub enum Vocabulary {
    /// A `tokenizer.json`.
    Whole(Vec<u8>),
    /// A `vocab.json` and a `merges.txt`.
    Parts { vocab: Vec<u8>, merges: Vec<u8> },
}

/// What stands before and behind the network of a text-to-image pipeline.
#[derive(Clone, Debug)]
pub struct PipelineFiles {
    /// One text encoder, or the two of Stable Diffusion XL.
    pub text: Vec<TextFiles>,
    pub vae: NetworkFiles,
    /// Whether zeros stand for the encoding of a negative prompt that was not given (`force_zeros_for_empty_prompt`).
    pub zeros_for_no_negative_prompt: bool,
}

impl PipelineFiles {
    /// Guidance scale of diffusers' pipeline where none is given.
    pub(super) fn guidance_scale(&self) -> f64 {
        if self.text.len() > 1 { 5.0 } else { 7.5 }
    }
}
