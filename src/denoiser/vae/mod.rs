//! The decoder of diffusers' `AutoencoderKL`: latents to pictures, in f32 and one sample at a time.
//!
//! The encoder's weights are passed over; every other tensor must be used. Called where a job ends, to show its samples.

mod config;

use super::files::NetworkFiles;
use super::kernels::{Conv2d, GroupNorm};
use super::layers::attention::{self, Attention};
use super::layers::resnet::{self, Resnet};
use super::passes::Passes;
use super::weights::{Scope, Weights};
use super::{Batch, DenoiserError, Device, LoadError, Precision};
use candle_core::{Device as Candle, Result, Tensor};
use config::VaeConfig;

/// The norms' epsilon.
const EPS: f64 = 1e-6;

/// Pixels along a side of what a latent of a decoder stands for, by its config alone.
pub(super) fn scale(files: &NetworkFiles) -> std::result::Result<usize, LoadError> {
    let config = VaeConfig::parse(&files.config).map_err(LoadError::of_part("vae"))?;
    Ok(scale_of(&config))
}

fn scale_of(config: &VaeConfig) -> usize {
    1 << (config.block_out_channels.len() - 1)
}

/// A decoder on a device.
pub struct VaeDecoder {
    decoder: Decoder,
    config: VaeConfig,
    device: Device,
    opened: Candle,
}

impl VaeDecoder {
    pub fn load(files: &NetworkFiles, device: Device) -> std::result::Result<Self, LoadError> {
        let config = VaeConfig::parse(&files.config)?;
        let opened = device.open()?;
        let weights = Weights::open(&files.weights, &opened, Precision::F32)?;
        for encoders in ["encoder.", "quant_conv."] {
            weights.root().skip(encoders);
        }
        let decoder = Decoder::load(&config, &weights.root())?;
        weights.finish()?;
        Ok(Self {
            decoder,
            config,
            device,
            opened,
        })
    }

    /// Channels of a picture.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.config.out_channels
    }

    /// Pixels along a side of what a latent stands for.
    #[must_use]
    pub fn scale(&self) -> usize {
        scale_of(&self.config)
    }

    /// Latents `[c, h, w]` to pictures `[3, scale h, scale w]` in about -1..1.
    pub fn decode(
        &self,
        latents: &Batch,
        [height, width]: [usize; 2],
    ) -> std::result::Result<Batch, DenoiserError> {
        let channels = self.config.latent_channels;
        if latents.size() != channels * height * width {
            return Err(DenoiserError::Shape {
                expected: vec![channels, height, width],
                found: latents.size(),
            });
        }
        let passes = Passes {
            device: self.device,
            samples: 1,
        };
        passes.run(latents, |_, latents| {
            let latents = Tensor::from_slice(latents, (1, channels, height, width), &self.opened)?;
            let shift = self.config.shift_factor.unwrap_or(0.0);
            let latents = latents.affine(1.0 / self.config.scaling_factor, shift)?;
            self.decoder.forward(&latents)?.flatten_all()?.to_vec1()
        })
    }
}

struct Decoder {
    before: Option<Conv2d>,
    conv_in: Conv2d,
    first: Resnet,
    attention: Option<Attention>,
    second: Resnet,
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// Residual blocks, after which the picture doubles.
struct Level {
    resnets: Vec<Resnet>,
    doubled: Option<Conv2d>,
}

impl Decoder {
    fn load(config: &VaeConfig, scope: &Scope) -> std::result::Result<Self, LoadError> {
        let latents = config.latent_channels;
        let before = config
            .use_post_quant_conv
            .then(|| Conv2d::load_pointwise(&scope.at("post_quant_conv"), latents, latents))
            .transpose()?;
        let scope = scope.at("decoder");
        let groups = config.norm_num_groups;
        let shape = resnet::Shape {
            groups,
            eps: EPS,
            time_embed_dim: None,
            time_scale_shift: false,
            output_scale: 1.0,
            size: None,
        };
        let (lowest, first) = (
            config.block_out_channels[config.block_out_channels.len() - 1],
            config.block_out_channels[0],
        );
        let mid = scope.at("mid_block");
        let resnet = |i| Resnet::load(&mid.at("resnets").at(i), lowest, lowest, shape);
        let attention = attention::Shape {
            channels: lowest,
            head_dim: lowest,
            groups: Some(groups),
            eps: EPS,
            output_scale: 1.0,
        };
        Ok(Self {
            before,
            conv_in: Conv2d::load(&scope.at("conv_in"), latents, lowest, None)?,
            first: resnet(0)?,
            attention: config
                .mid_block_add_attention
                .then(|| Attention::load(&mid.at("attentions.0"), attention))
                .transpose()?,
            second: resnet(1)?,
            levels: levels(config, &scope.at("up_blocks"), shape)?,
            norm_out: GroupNorm::load(&scope.at("conv_norm_out"), first, groups, EPS)?,
            conv_out: Conv2d::load(&scope.at("conv_out"), first, config.out_channels, None)?,
        })
    }

    /// `[b, c, h, w]` to `[b, 3, scale h, scale w]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.before {
            Some(before) => before.forward(x)?,
            None => x.clone(),
        };
        let mut x = self.first.forward(&self.conv_in.forward(&x)?, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        x = self.second.forward(&x, None)?;
        for level in &self.levels {
            for resnet in &level.resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(conv) = &level.doubled {
                let (_, _, height, width) = x.dims4()?;
                x = conv.forward(&x.upsample_nearest2d(2 * height, 2 * width)?)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}

/// The levels, lowest resolution first.
fn levels(
    config: &VaeConfig,
    scope: &Scope,
    shape: resnet::Shape,
) -> std::result::Result<Vec<Level>, LoadError> {
    let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
    (0..channels.len())
        .map(|i| {
            let scope = scope.at(i);
            let to = channels[i];
            let resnets = (0..=config.layers_per_block).map(|j| {
                let from = if j == 0 {
                    channels[i.saturating_sub(1)]
                } else {
                    to
                };
                Resnet::load(&scope.at("resnets").at(j), from, to, shape)
            });
            let conv = scope.at("upsamplers.0.conv");
            Ok(Level {
                resnets: resnets.collect::<std::result::Result<_, _>>()?,
                doubled: (i + 1 < channels.len())
                    .then(|| Conv2d::load(&conv, to, to, None))
                    .transpose()?,
            })
        })
        .collect()
}
