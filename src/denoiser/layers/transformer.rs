//! diffusers' `Transformer2DModel`: blocks of self-attention, attention to a context and a gated feed-forward layer over the pixels of
//! an image, with a residual connection around all of them.
//!
//! Pixels and tokens stay the last dimension throughout, `[b, c, n]`, so that nothing is transposed in memory.

use crate::denoiser::LoadError;
use crate::denoiser::kernels::{GroupNorm, LayerNorm, Linear, Mask, attend, geglu};
use crate::denoiser::weights::Scope;
use candle_core::{DType, Result, Tensor};

/// The norm before the blocks.
const GROUP_EPS: f64 = 1e-6;
/// The norms in them.
const LAYER_EPS: f64 = 1e-5;
/// Width of the feed-forward layer in widths of the block.
const FEED_FORWARD: usize = 4;

/// How a transformer is built.
#[derive(Clone, Copy)]
pub struct Shape {
    pub channels: usize,
    pub heads: usize,
    /// Channels of the context.
    pub context: usize,
    /// Groups of the norm before the blocks.
    pub groups: usize,
    /// Whether the projections around the blocks are stored as linear layers rather than 1x1 convolutions.
    pub linear_projection: bool,
    /// Whether half-precision networks attend in f32.
    pub upcast: bool,
}

/// A transformer over an image.
pub struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    blocks: Vec<Block>,
    proj_out: Linear,
}

impl Transformer {
    pub fn load(
        scope: &Scope,
        blocks: usize,
        shape: Shape,
    ) -> std::result::Result<Self, LoadError> {
        let channels = shape.channels;
        let projection = |name: &str| {
            let scope = scope.at(name);
            if shape.linear_projection {
                Linear::load(&scope, channels, channels)
            } else {
                Linear::load_pointwise(&scope, channels, channels)
            }
        };
        Ok(Self {
            norm: GroupNorm::load(&scope.at("norm"), channels, shape.groups, GROUP_EPS)?,
            proj_in: projection("proj_in")?,
            blocks: (0..blocks)
                .map(|i| Block::load(&scope.at("transformer_blocks").at(i), shape))
                .collect::<std::result::Result<_, _>>()?,
            proj_out: projection("proj_out")?,
        })
    }

    /// `[b, c, h, w]` and a context `[b, c', tokens]` to the shape of the former.
    pub fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let normed = self.norm.forward(x)?.flatten_from(2)?;
        let mut hidden = self.proj_in.forward(&normed)?;
        for block in &self.blocks {
            hidden = block.forward(&hidden, context)?;
        }
        self.proj_out.forward(&hidden)?.reshape(x.shape())? + x
    }
}

/// Attention to oneself, to the context, and a feed-forward layer.
struct Block {
    norm1: LayerNorm,
    own: Attention,
    norm2: LayerNorm,
    cross: Attention,
    norm3: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn load(scope: &Scope, shape: Shape) -> std::result::Result<Self, LoadError> {
        let channels = shape.channels;
        let wide = FEED_FORWARD * channels;
        let norm = |name: &str| LayerNorm::load(&scope.at(name), channels, LAYER_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            own: Attention::load(&scope.at("attn1"), channels, shape)?,
            norm2: norm("norm2")?,
            cross: Attention::load(&scope.at("attn2"), shape.context, shape)?,
            norm3: norm("norm3")?,
            widen: Linear::load(&scope.at("ff.net.0.proj"), channels, 2 * wide)?,
            narrow: Linear::load(&scope.at("ff.net.2"), wide, channels)?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = (self.own.forward(&normed, &normed)? + x)?;
        let x = (self.cross.forward(&self.norm2.forward(&x)?, context)? + x)?;
        let wide = self.widen.forward(&self.norm3.forward(&x)?)?;
        self.narrow.forward(&geglu(&wide)?)? + x
    }
}

/// Attention with several heads from one sequence to another.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    upcast: bool,
}

impl Attention {
    fn load(scope: &Scope, inputs: usize, shape: Shape) -> std::result::Result<Self, LoadError> {
        let channels = shape.channels;
        Ok(Self {
            query: Linear::load_unbiased(&scope.at("to_q"), channels, channels)?,
            key: Linear::load_unbiased(&scope.at("to_k"), inputs, channels)?,
            value: Linear::load_unbiased(&scope.at("to_v"), inputs, channels)?,
            out: Linear::load(&scope.at("to_out.0"), channels, channels)?,
            heads: shape.heads,
            upcast: shape.upcast,
        })
    }

    /// `x`, `[b, c, n]`, attends to `context`, `[b, c', m]`.
    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (samples, channels, _) = x.dims3()?;
        let heads = |projection: &Linear, of: &Tensor| {
            let of = projection.forward(of)?;
            let of = if self.upcast {
                of.to_dtype(DType::F32)?
            } else {
                of
            };
            let positions = of.dim(2)?;
            of.reshape((samples * self.heads, channels / self.heads, positions))
        };
        let mixed = attend(
            &heads(&self.query, x)?,
            &heads(&self.key, context)?,
            &heads(&self.value, context)?,
            Mask::None,
        )?;
        self.out
            .forward(&mixed.reshape(x.shape())?.to_dtype(x.dtype())?)
    }
}
