//! The blocks that networks have in common, by diffusers' names for their weights: residual blocks, attention, levels of a `UNet`, the
//! embedding of times.
//!
//! A block loads itself from its part of the weights. Activations are `[b, c, h, w]` or `[b, c, n]` throughout.

pub mod attention;
pub mod level;
pub mod resnet;
pub mod time;
pub mod transformer;
pub mod unet;
