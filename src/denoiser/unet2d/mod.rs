//! diffusers' `UNet2DModel`: the network of unconditional and class-conditional diffusion models of images.
//!
//! Built from its `config.json` and its weights, each of which must account for all of the other. Forward passes are f32 and
//! treat each sample by itself. Only `network` calls it.

mod config;

pub use config::{MidBlock, Unet2dConfig};

use crate::denoiser::LoadError;
use crate::denoiser::layers::level::{self, Down, Mid, Surroundings, Up};
use crate::denoiser::layers::unet::{self, Unet};
use crate::denoiser::layers::{attention, resnet, time};
use crate::denoiser::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// The network on a device.
pub(super) struct Unet2d {
    embedding: time::Embedding,
    unet: Unet,
}

impl Unet2d {
    /// Builds the network; every tensor of the weights must be used.
    pub fn load(config: &Unet2dConfig, weights: Weights) -> std::result::Result<Self, LoadError> {
        let network = Self::build(config, &weights.root())?;
        weights.finish()?;
        Ok(network)
    }

    fn build(config: &Unet2dConfig, scope: &Scope) -> std::result::Result<Self, LoadError> {
        let shape = unet::Shape {
            in_channels: config.in_channels,
            out_channels: config.out_channels,
            channels: config.block_out_channels[0],
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
            unet: Unet::load(scope, shape, down, mid, up)?,
        })
    }

    /// The network's output for `x`, `[b, c, h, w]`, with a timestep (and a label) for every sample.
    pub fn forward(&self, x: &Tensor, timesteps: &[f64], labels: Option<&[u32]>) -> Result<Tensor> {
        let around = Surroundings {
            time: self
                .embedding
                .forward(timesteps, labels, None, x.device())?,
            context: None,
        };
        self.unet.forward(x, &around)
    }
}

/// How times are embedded.
fn times(config: &Unet2dConfig) -> time::Shape {
    time::Shape {
        channels: config.block_out_channels[0],
        freq_shift: config.freq_shift,
        cosines_first: config.flip_sin_to_cos,
        width: config.time_embed_dim,
        classes: config.num_class_embeds,
    }
}

/// How the blocks of a level are built.
fn shape(config: &Unet2dConfig, level: usize, attention: bool) -> level::Shape {
    let channels = config.block_out_channels[level];
    level::Shape {
        resnet: resnet::Shape {
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            time_embed_dim: Some(config.time_embed_dim),
            time_scale_shift: config.time_scale_shift,
            output_scale: 1.0,
            size: Some(config.sample_size.map(|side| side >> level)),
        },
        attention: if attention {
            level::Kind::Pixels(attention::Shape {
                channels,
                head_dim: config.head_dim(channels),
                groups: Some(config.norm_num_groups),
                eps: config.norm_eps,
                output_scale: 1.0,
            })
        } else {
            level::Kind::Nothing
        },
    }
}

fn down(config: &Unet2dConfig, scope: &Scope) -> std::result::Result<Vec<Down>, LoadError> {
    let channels = &config.block_out_channels;
    (0..channels.len())
        .map(|i| {
            let from = channels[i.saturating_sub(1)];
            let shape = shape(config, i, config.down_attention[i]);
            let padding = (i + 1 < channels.len()).then_some(config.downsample_padding);
            Down::load(
                &scope.at(i),
                (from, channels[i]),
                config.layers_per_block,
                &shape,
                padding,
            )
        })
        .collect()
}

fn mid(config: &Unet2dConfig, scope: &Scope) -> std::result::Result<Option<Mid>, LoadError> {
    let Some(mid) = &config.mid_block else {
        return Ok(None);
    };
    let last = config.block_out_channels.len() - 1;
    let channels = config.block_out_channels[last];
    let mut shape = shape(config, last, mid.attention);
    shape.resnet.output_scale = mid.scale_factor;
    if let level::Kind::Pixels(attention) = &mut shape.attention {
        attention.groups = mid.attention_groups;
        attention.output_scale = mid.scale_factor;
    }
    Mid::load(scope, channels, &shape).map(Some)
}

fn up(config: &Unet2dConfig, scope: &Scope) -> std::result::Result<Vec<Up>, LoadError> {
    let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
    (0..channels.len())
        .map(|i| {
            let from = channels[i.saturating_sub(1)];
            // The skips of a level, and the one the level above ended with.
            let mut skips = vec![channels[i]; config.layers_per_block];
            skips.push(channels[(i + 1).min(channels.len() - 1)]);
            let shape = shape(config, channels.len() - 1 - i, config.up_attention[i]);
            let doubles = i + 1 < channels.len();
            Up::load(&scope.at(i), (from, channels[i]), &skips, &shape, doubles)
        })
        .collect()
}
