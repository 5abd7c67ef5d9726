//! The blocks of a level: residual blocks, attention after each where the level has it, and the change of size.

use super::attention::{self, Attention};
use super::resnet::{self, Resnet};
use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Conv2d, Padding};
use crate::denoiser::weights::Scope;
use candle_core::{Result, Tensor};

/// What a level's blocks have in common.
#[derive(Clone, Copy)]
pub struct Shape {
    pub resnet: resnet::Shape,
    /// Present where the level has attention.
    pub attention: Option<attention::Shape>,
}

/// Residual blocks with what follows each.
struct Layers {
    resnets: Vec<Resnet>,
    attentions: Vec<Attention>,
}

impl Layers {
    /// Blocks from and to the channels of each pair.
    fn load(
        scope: &Scope,
        channels: impl Iterator<Item = (usize, usize)>,
        shape: Shape,
    ) -> std::result::Result<Self, LoadError> {
        let resnets = channels
            .enumerate()
            .map(|(i, (from, to))| Resnet::load(&scope.at("resnets").at(i), from, to, shape.resnet))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let attentions = shape.attention.map(|attention| {
            (0..resnets.len())
                .map(|i| Attention::load(&scope.at("attentions").at(i), attention))
                .collect::<std::result::Result<_, _>>()
        });
        Ok(Self {
            attentions: attentions.transpose()?.unwrap_or_default(),
            resnets,
        })
    }

    fn forward(&self, layer: usize, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let x = self.resnets[layer].forward(x, time)?;
        match self.attentions.get(layer) {
            Some(attention) => attention.forward(&x),
            None => Ok(x),
        }
    }
}

/// A level on the way down.
pub struct Down {
    layers: Layers,
    halving: Option<Conv2d>,
}

impl Down {
    /// `padding` of the convolution that halves the image, absent at the last level.
    pub fn load(
        scope: &Scope,
        (channels, outputs): (usize, usize),
        layers: usize,
        shape: Shape,
        padding: Option<usize>,
    ) -> std::result::Result<Self, LoadError> {
        let channels = (0..layers).map(|i| (if i == 0 { channels } else { outputs }, outputs));
        let halving = padding.map(|before| {
            let padding = Padding { before, after: 1 };
            Conv2d::load_halving(&scope.at("downsamplers.0.conv"), outputs, padding)
        });
        Ok(Self {
            layers: Layers::load(scope, channels, shape)?,
            halving: halving.transpose()?,
        })
    }

    /// The level's output; everything on the way there is pushed onto `skips`.
    pub fn forward(&self, x: &Tensor, time: &Tensor, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in 0..self.layers.resnets.len() {
            x = self.layers.forward(layer, &x, time)?;
            skips.push(x.clone());
        }
        if let Some(halving) = &self.halving {
            x = halving.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// The block at the lowest resolution.
pub struct Mid {
    layers: Layers,
    last: Resnet,
}

impl Mid {
    pub fn load(
        scope: &Scope,
        channels: usize,
        shape: Shape,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            layers: Layers::load(scope, std::iter::once((channels, channels)), shape)?,
            last: Resnet::load(&scope.at("resnets.1"), channels, channels, shape.resnet)?,
        })
    }

    pub fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        self.last.forward(&self.layers.forward(0, x, time)?, time)
    }
}

/// A level on the way up.
pub struct Up {
    layers: Layers,
    doubled: Option<Conv2d>,
}

impl Up {
    /// `skips` are the channels that join before every layer; `doubles` says whether the image doubles after them.
    pub fn load(
        scope: &Scope,
        (channels, outputs): (usize, usize),
        skips: &[usize],
        shape: Shape,
        doubles: bool,
    ) -> std::result::Result<Self, LoadError> {
        let channels = skips.iter().enumerate().map(|(i, skip)| {
            let from = if i == 0 { channels } else { outputs };
            (from + skip, outputs)
        });
        let doubled =
            doubles.then(|| Conv2d::load(&scope.at("upsamplers.0.conv"), outputs, outputs));
        Ok(Self {
            layers: Layers::load(scope, channels, shape)?,
            doubled: doubled.transpose()?,
        })
    }

    /// The level's output; takes one of `skips` a layer.
    pub fn forward(&self, x: &Tensor, time: &Tensor, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in 0..self.layers.resnets.len() {
            let skip = skips.pop().expect("as many skips as layers on the way up");
            x = self
                .layers
                .forward(layer, &Tensor::cat(&[&x, &skip], 1)?, time)?;
        }
        match &self.doubled {
            Some(conv) => {
                let (_, _, height, width) = x.dims4()?;
                conv.forward(&x.upsample_nearest2d(2 * height, 2 * width)?)
            }
            None => Ok(x),
        }
    }
}
