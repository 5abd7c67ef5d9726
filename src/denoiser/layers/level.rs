//! The blocks of a level: residual blocks, attention after each where the level has it, and the change of size.

use super::attention::{self, Attention};
use super::resnet::{self, Resnet};
use super::transformer::{self, Transformer};
use crate::denoiser::LoadError;
use crate::denoiser::kernels::{Conv2d, Padding};
use crate::denoiser::weights::Scope;
use candle_core::{Error, Result, Tensor};

/// What a level's blocks have in common.
#[derive(Clone)]
pub struct Shape {
    pub resnet: resnet::Shape,
    pub attention: Kind,
}

/// What follows the residual blocks of a level.
#[derive(Clone)]
pub enum Kind {
    Nothing,
    /// Attention of the pixels to each other.
    Pixels(attention::Shape),
    /// Transformers that attend to a context, with so many blocks after each residual block.
    Transformers(transformer::Shape, Vec<usize>),
}

/// What all blocks of a network are told beside the image.
pub struct Surroundings {
    /// The time's embedding after silu.
    pub time: Tensor,
    /// `[b, c, tokens]`; in networks with transformers.
    pub context: Option<Tensor>,
}

/// What follows a residual block.
enum After {
    Pixels(Box<Attention>),
    Transformer(Box<Transformer>),
}

impl After {
    fn load(
        scope: &Scope,
        kind: &Kind,
        layer: usize,
    ) -> std::result::Result<Option<Self>, LoadError> {
        Ok(match kind {
            Kind::Nothing => None,
            Kind::Pixels(shape) => {
                let attention = Attention::load(scope, *shape)?;
                Some(Self::Pixels(Box::new(attention)))
            }
            Kind::Transformers(shape, blocks) => {
                let transformer = Transformer::load(scope, blocks[layer], *shape)?;
                Some(Self::Transformer(Box::new(transformer)))
            }
        })
    }

    fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor> {
        match (self, &around.context) {
            (Self::Pixels(attention), _) => attention.forward(x),
            (Self::Transformer(transformer), Some(context)) => transformer.forward(x, context),
            (Self::Transformer(_), None) => Err(Error::msg("a transformer has no context")),
        }
    }
}

/// A residual block with what follows it.
struct Layer {
    resnet: Resnet,
    after: Option<After>,
}

impl Layer {
    /// The `i`-th layer of a level.
    fn load(
        scope: &Scope,
        i: usize,
        (channels, outputs): (usize, usize),
        shape: &Shape,
    ) -> std::result::Result<Self, LoadError> {
        let resnet = scope.at("resnets").at(i);
        Ok(Self {
            resnet: Resnet::load(&resnet, channels, outputs, shape.resnet)?,
            after: After::load(&scope.at("attentions").at(i), &shape.attention, i)?,
        })
    }

    fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor> {
        let x = self.resnet.forward(x, Some(&around.time))?;
        match &self.after {
            Some(after) => after.forward(&x, around),
            None => Ok(x),
        }
    }
}

/// A level on the way down.
pub struct Down {
    layers: Vec<Layer>,
    halving: Option<Conv2d>,
}

impl Down {
    /// `padding` of the convolution that halves the image, absent at the last level.
    pub fn load(
        scope: &Scope,
        (channels, outputs): (usize, usize),
        layers: usize,
        shape: &Shape,
        padding: Option<usize>,
    ) -> std::result::Result<Self, LoadError> {
        let layers = (0..layers).map(|i| {
            let from = if i == 0 { channels } else { outputs };
            Layer::load(scope, i, (from, outputs), shape)
        });
        let halving = padding.map(|before| {
            let padding = Padding { before, after: 1 };
            Conv2d::load_halving(&scope.at("downsamplers.0.conv"), outputs, padding)
        });
        Ok(Self {
            layers: layers.collect::<std::result::Result<_, _>>()?,
            halving: halving.transpose()?,
        })
    }

    /// The level's output; everything on the way there is pushed onto `skips`.
    pub fn forward(
        &self,
        x: &Tensor,
        around: &Surroundings,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x, around)?;
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
    first: Layer,
    last: Option<Resnet>,
}

impl Mid {
    pub fn load(
        scope: &Scope,
        channels: usize,
        shape: &Shape,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            first: Layer::load(scope, 0, (channels, channels), shape)?,
            last: Some(Resnet::load(
                &scope.at("resnets.1"),
                channels,
                channels,
                shape.resnet,
            )?),
        })
    }

    /// Of one residual block alone.
    pub fn load_alone(
        scope: &Scope,
        channels: usize,
        shape: &Shape,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            first: Layer::load(scope, 0, (channels, channels), shape)?,
            last: None,
        })
    }

    pub fn forward(&self, x: &Tensor, around: &Surroundings) -> Result<Tensor> {
        let x = self.first.forward(x, around)?;
        match &self.last {
            Some(last) => last.forward(&x, Some(&around.time)),
            None => Ok(x),
        }
    }
}

/// A level on the way up.
pub struct Up {
    layers: Vec<Layer>,
    doubled: Option<Conv2d>,
}

impl Up {
    /// `skips` are the channels that join before every layer; `doubles` says whether the image doubles after them.
    pub fn load(
        scope: &Scope,
        (channels, outputs): (usize, usize),
        skips: &[usize],
        shape: &Shape,
        doubles: bool,
    ) -> std::result::Result<Self, LoadError> {
        let layers = skips.iter().enumerate().map(|(i, skip)| {
            let from = if i == 0 { channels } else { outputs };
            Layer::load(scope, i, (from + skip, outputs), shape)
        });
        let size = shape.resnet.size.map(|size| size.map(|side| 2 * side));
        let conv = scope.at("upsamplers.0.conv");
        let doubled = doubles.then(|| Conv2d::load(&conv, outputs, outputs, size));
        Ok(Self {
            layers: layers.collect::<std::result::Result<_, _>>()?,
            doubled: doubled.transpose()?,
        })
    }

    /// The level's output; takes one of `skips` a layer.
    pub fn forward(
        &self,
        x: &Tensor,
        around: &Surroundings,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            let skip = skips.pop().expect("as many skips as layers on the way up");
            x = layer.forward(&Tensor::cat(&[&x, &skip], 1)?, around)?;
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
