//! A CLIP text encoder: a transformer in which a token attends to those before it.
//!
//! Tokens stay the last dimension throughout, `[1, c, tokens]`, as pixels do in the networks that attend to them.

use super::config::TextConfig;
use crate::denoiser::LoadError;
use crate::denoiser::kernels::{LayerNorm, Linear, Mask, attend, gelu, quick_gelu};
use crate::denoiser::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// The end token of configs that name another one by mistake; the end of a text is then its largest token.
const LEGACY_END: u32 = 2;

/// An encoder on a device.
pub(super) struct Encoder {
    /// `[vocabulary, c]`.
    tokens: Tensor,
    /// `[positions, c]`.
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    projection: Option<Linear>,
    config: TextConfig,
}

/// What an encoder makes of a text, `[1, c, tokens]` each.
pub(super) struct Layers {
    /// Before the last layer.
    pub penultimate: Tensor,
    /// After the last layer and its norm.
    pub normed: Tensor,
}

impl Encoder {
    /// Builds the encoder; every tensor of the weights must be used.
    pub fn load(config: TextConfig, weights: Weights) -> std::result::Result<Self, LoadError> {
        let root = weights.root();
        // transformers has written the names with and without this prefix.
        let scope = if root.has("text_model.final_layer_norm.weight") {
            root.at("text_model")
        } else {
            weights.root()
        };
        let embeddings = scope.at("embeddings");
        // The numbers 0, 1, 2, ... of checkpoints from before transformers 4.31.
        embeddings.skip("position_ids");
        let width = config.hidden_size;
        let table = |name: &str, rows| embeddings.at(name).tensor("weight", &[rows, width]);
        let encoder = Self {
            tokens: table("token_embedding", config.vocab_size)?,
            positions: table("position_embedding", config.max_position_embeddings)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::load(&scope.at("encoder.layers").at(i), &config))
                .collect::<std::result::Result<_, _>>()?,
            norm: LayerNorm::load(&scope.at("final_layer_norm"), width, config.layer_norm_eps)?,
            projection: config
                .projects()
                .then(|| {
                    let scope = root.at("text_projection");
                    Linear::load_unbiased(&scope, width, config.projection_dim)
                })
                .transpose()?,
            config,
        };
        weights.finish()?;
        Ok(encoder)
    }

    /// Channels of its layers.
    pub fn channels(&self) -> usize {
        self.config.hidden_size
    }

    /// Whether it has a pooled output.
    pub fn projects(&self) -> bool {
        self.projection.is_some()
    }

    pub fn forward(&self, tokens: &[u32]) -> Result<Layers> {
        let ids = Tensor::new(tokens, self.tokens.device())?;
        let words = self.tokens.index_select(&ids, 0)?;
        let words = (words + self.positions.narrow(0, 0, tokens.len())?)?;
        let mut hidden = words.t()?.contiguous()?.unsqueeze(0)?;
        let mut penultimate = hidden.clone();
        for layer in &self.layers {
            penultimate = hidden;
            hidden = layer.forward(&penultimate)?;
        }
        Ok(Layers {
            penultimate,
            normed: self.norm.forward(&hidden)?,
        })
    }

    /// The projected last layer at the end of the text, `[1, p]`.
    pub fn pooled(&self, layers: &Layers, tokens: &[u32]) -> Result<Tensor> {
        let end = if self.config.eos_token_id == LEGACY_END {
            tokens.iter().max().copied().unwrap_or_default()
        } else {
            self.config.eos_token_id
        };
        let at = tokens.iter().position(|&token| token == end).unwrap_or(0);
        let last = layers.normed.narrow(2, at, 1)?.contiguous()?;
        match &self.projection {
            Some(projection) => projection.forward(&last)?.squeeze(2),
            None => last.squeeze(2),
        }
    }
}

/// Self-attention and a feed-forward layer.
struct Layer {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
    quick: bool,
}

impl Layer {
    fn load(scope: &Scope, config: &TextConfig) -> std::result::Result<Self, LoadError> {
        let (width, wide) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| LayerNorm::load(&scope.at(name), width, config.layer_norm_eps);
        let attention = scope.at("self_attn");
        let projection = |name: &str| Linear::load(&attention.at(name), width, width);
        Ok(Self {
            norm1: norm("layer_norm1")?,
            query: projection("q_proj")?,
            key: projection("k_proj")?,
            value: projection("v_proj")?,
            out: projection("out_proj")?,
            norm2: norm("layer_norm2")?,
            widen: Linear::load(&scope.at("mlp.fc1"), width, wide)?,
            narrow: Linear::load(&scope.at("mlp.fc2"), wide, width)?,
            heads: config.num_attention_heads,
            quick: config.hidden_act == "quick_gelu",
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, channels, tokens) = x.dims3()?;
        let normed = self.norm1.forward(x)?;
        let heads = |projection: &Linear| {
            let of = projection.forward(&normed)?;
            of.reshape((self.heads, channels / self.heads, tokens))
        };
        let mixed = attend(
            &heads(&self.query)?,
            &heads(&self.key)?,
            &heads(&self.value)?,
            Mask::Causal,
        )?;
        let x = (self.out.forward(&mixed.reshape(x.shape())?)? + x)?;
        let wide = self.widen.forward(&self.norm2.forward(&x)?)?;
        let wide = if self.quick {
            quick_gelu(&wide)?
        } else {
            gelu(&wide)?
        };
        self.narrow.forward(&wide)? + x
    }
}
