//! The engine against its references: SciPy's searches, diffusers' tables, finite differences and its own promises.

mod ablation;
mod derivatives;
mod hso_golden;
mod lifecycle;
mod noise_golden;
mod properties;
mod unet2d;
