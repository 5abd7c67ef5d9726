//! diffusers' `UNet2DConditionModel`: the network of Stable Diffusion, which attends to what a prompt is encoded as.
//!
//! Built from its `config.json` and its weights, each of which must account for all of the other. Shares its blocks with `unet2d`.
//! Only `conditioned` calls it.

mod config;
mod raw;

pub use config::{LevelConfig, MidConfig, TIME_IDS, TextTime, Unet2dConditionConfig};

use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Linear, silu};
use crate::denoiser::layers::level::{self, Down, Kind, Mid, Surroundings, Up};
use crate::denoiser::layers::unet::{self, Unet};
use crate::denoiser::layers::{resnet, time, transformer};
use crate::denoiser::weights::{Scope, Weights};
use candle_core::{Error, Result, Tensor};

/// The network on a device.
pub(super) struct Unet2dCondition {
    embedding: time::Embedding,
    text_time: Option<AddedEmbedding>,
    unet: Unet,
}

/// What a pass is conditioned on beside its times, for every sample.
pub(super) struct Inputs<'a> {
    /// `[b, cross_attention_dim, tokens]`.
    pub context: Tensor,
    /// Pooled text, `[b, pooled]`.
    pub pooled: Option<Tensor>,
    /// Sizes of the images that join the pooled text, for all samples.
    pub time_ids: [f64; TIME_IDS],
    pub labels: Option<&'a [u32]>,
}

impl Unet2dCondition {
    /// Builds the network; every tensor of the weights must be used.
    pub fn load(
        config: &Unet2dConditionConfig,
        weights: Weights,
    ) -> std::result::Result<Self, LoadError> {
        let network = Self::build(config, &weights.root())?;
        weights.finish()?;
        Ok(network)
    }

    fn build(
        config: &Unet2dConditionConfig,
        scope: &Scope,
    ) -> std::result::Result<Self, LoadError> {
        let shape = unet::Shape {
            in_channels: config.in_channels,
            out_channels: config.out_channels,
            channels: config.levels[0].channels,
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            size: config.sample_size,
            center_input_sample: config.center_input_sample,
        };
        let down = down(config, &scope.at("down_blocks"))?;
        let mid = mid(config, &scope.at("mid_block"))?;
        let up = up(config, &scope.at("up_blocks"))?;
        Ok(Self {
            embedding: time::Embedding::load(scope, times(config))?,
            text_time: config
                .text_time
                .map(|shape| AddedEmbedding::load(scope, shape, times(config)))
                .transpose()?,
            unet: Unet::load(scope, shape, down, mid, up)?,
        })
    }

    /// The network's output for `x`, `[b, c, h, w]`, with a timestep for every sample.
    pub fn forward(&self, x: &Tensor, timesteps: &[f64], inputs: &Inputs) -> Result<Tensor> {
        let added = match (&self.text_time, &inputs.pooled) {
            (Some(embedding), Some(pooled)) => Some(embedding.forward(pooled, &inputs.time_ids)?),
            (Some(_), None) => return Err(Error::msg("the network needs pooled text")),
            (None, _) => None,
        };
        let time = self
            .embedding
            .forward(timesteps, inputs.labels, added.as_ref(), x.device())?;
        let around = Surroundings {
            time,
            context: Some(inputs.context.clone()),
        };
        self.unet.forward(x, &around)
    }
}

/// Pooled text and sizes, through two layers to what joins the time's embedding.
struct AddedEmbedding {
    shape: TextTime,
    times: time::Shape,
    first: Linear,
    second: Linear,
}

impl AddedEmbedding {
    fn load(
        scope: &Scope,
        shape: TextTime,
        times: time::Shape,
    ) -> std::result::Result<Self, LoadError> {
        let scope = scope.at("add_embedding");
        let inputs = shape.pooled + TIME_IDS * shape.time_dim;
        Ok(Self {
            first: Linear::load(&scope.at("linear_1"), inputs, times.width)?,
            second: Linear::load(&scope.at("linear_2"), times.width, times.width)?,
            shape,
            times,
        })
    }

    /// `[b, pooled]` to `[b, width]`.
    fn forward(&self, pooled: &Tensor, time_ids: &[f64; TIME_IDS]) -> Result<Tensor> {
        let (samples, channels) = (pooled.dim(0)?, self.shape.time_dim);
        let waves = time_ids.iter().flat_map(|&id| {
            time::waves(
                id,
                channels,
                self.times.freq_shift,
                self.times.cosines_first,
            )
        });
        let waves = waves.collect::<Vec<f32>>().repeat(samples);
        let waves = Tensor::from_vec(waves, (samples, TIME_IDS * channels), pooled.device())?;
        let joined = Tensor::cat(&[pooled, &waves.to_dtype(pooled.dtype())?], 1)?;
        let hidden = silu(&self.first.forward_vectors(&joined)?)?;
        self.second.forward_vectors(&hidden)
    }
}

/// How times are embedded.
fn times(config: &Unet2dConditionConfig) -> time::Shape {
    time::Shape {
        channels: config.levels[0].channels,
        freq_shift: config.freq_shift,
        cosines_first: config.flip_sin_to_cos,
        width: config.time_embed_dim,
        classes: config.num_class_embeds,
    }
}

/// How the blocks of a level are built, with so many transformer blocks after each residual block.
fn shape(
    config: &Unet2dConditionConfig,
    level: usize,
    transformers: Option<&Vec<usize>>,
) -> level::Shape {
    let size = config.sample_size.map(|side| side >> level);
    let level = &config.levels[level];
    let attention = transformer::Shape {
        channels: level.channels,
        heads: level.heads,
        context: level.cross_attention_dim,
        groups: config.norm_num_groups,
        linear_projection: config.use_linear_projection,
        upcast: config.upcast_attention,
    };
    level::Shape {
        resnet: resnet::Shape {
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            time_embed_dim: Some(config.time_embed_dim),
            time_scale_shift: config.time_scale_shift,
            output_scale: 1.0,
            size: Some(size),
        },
        attention: transformers.map_or(Kind::Nothing, |blocks| {
            Kind::Transformers(attention, blocks.clone())
        }),
    }
}

fn down(
    config: &Unet2dConditionConfig,
    scope: &Scope,
) -> std::result::Result<Vec<Down>, LoadError> {
    let levels = &config.levels;
    (0..levels.len())
        .map(|i| {
            let level = &levels[i];
            let channels = (levels[i.saturating_sub(1)].channels, level.channels);
            let shape = shape(config, i, level.down.as_ref());
            let padding = (i + 1 < levels.len()).then_some(config.downsample_padding);
            Down::load(&scope.at(i), channels, level.layers, &shape, padding)
        })
        .collect()
}

fn mid(
    config: &Unet2dConditionConfig,
    scope: &Scope,
) -> std::result::Result<Option<Mid>, LoadError> {
    let Some(mid) = &config.mid_block else {
        return Ok(None);
    };
    let last = config.levels.len() - 1;
    let level = &config.levels[last];
    let blocks = mid.transformers.map(|blocks| vec![blocks]);
    let mut shape = shape(config, last, blocks.as_ref());
    shape.resnet.output_scale = mid.scale_factor;
    if blocks.is_some() {
        Mid::load(scope, level.channels, &shape).map(Some)
    } else {
        Mid::load_alone(scope, level.channels, &shape).map(Some)
    }
}

fn up(config: &Unet2dConditionConfig, scope: &Scope) -> std::result::Result<Vec<Up>, LoadError> {
    let levels: Vec<&LevelConfig> = config.levels.iter().rev().collect();
    (0..levels.len())
        .map(|i| {
            let level = levels[i];
            let channels = (levels[i.saturating_sub(1)].channels, level.channels);
            // The skips of a level, and the one the level above ended with.
            let mut skips = vec![level.channels; level.layers];
            skips.push(levels[(i + 1).min(levels.len() - 1)].channels);
            let shape = shape(config, levels.len() - 1 - i, level.up.as_ref());
            let doubles = i + 1 < levels.len();
            Up::load(&scope.at(i), channels, &skips, &shape, doubles)
        })
        .collect()
}
