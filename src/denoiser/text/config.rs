//! The `config.json` of a CLIP text encoder as transformers writes it.
//!
//! transformers writes dozens of fields that are about generating text or training; they are passed over. What shapes the network
//! is read, and its weights must be exactly those that it has.

use crate::denoiser::LoadError;
use crate::denoiser::config_file::one_of;
use serde::Deserialize;

/// Most of anything that is counted: keeps a hostile config from overflowing sizes.
const MOST: usize = 1 << 20;

/// An encoder's description.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TextConfig {
    #[serde(default)]
    pub architectures: Vec<String>,
    model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    #[serde(default)]
    pub projection_dim: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
    pub hidden_act: String,
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    #[serde(default = "eos_token_id")]
    pub eos_token_id: u32,
}

fn layer_norm_eps() -> f64 {
    1e-5
}

fn eos_token_id() -> u32 {
    49407
}

impl TextConfig {
    /// Reads and checks the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let config: Self =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                LoadError::config(error.path().to_string(), error.inner().to_string())
            })?;
        one_of("model_type", Some(&config.model_type), &["clip_text_model"])?;
        one_of(
            "hidden_act",
            Some(&config.hidden_act),
            &["quick_gelu", "gelu"],
        )?;
        one_of(
            "architectures",
            config.architectures.first().map(String::as_str),
            &["CLIPTextModel", "CLIPTextModelWithProjection"],
        )?;
        for (field, count) in [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("max_position_embeddings", config.max_position_embeddings),
            ("projection_dim", config.projection_dim.max(1)),
        ] {
            if !(1..=MOST).contains(&count) {
                return Err(LoadError::config(field, format!("must be 1 to {MOST}")));
            }
        }
        if !config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        {
            return Err(LoadError::config(
                "num_attention_heads",
                "must divide hidden_size",
            ));
        }
        Ok(config)
    }

    /// Whether it projects a pooled output.
    pub fn projects(&self) -> bool {
        self.architectures
            .iter()
            .any(|name| name == "CLIPTextModelWithProjection")
    }
}
