//! Few-step samplers in data-prediction form, each a short function that reads like its paper.
//!
//! A sampler moves a state of any vector space ([`Space`]) down a list of noise [`Level`]s by asking a denoiser for the clean
//! image `E[x_0 | x_t]`; it holds for variance-preserving, EDM and flow-matching models alike, since only `alpha`, `sigma` and
//! their half log-SNR enter. Pure: no clock, no files, no threads.

mod level;
mod space;

pub use level::{Level, levels};
pub use space::Space;
