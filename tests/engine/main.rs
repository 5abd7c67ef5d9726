//! The engine against its references: SciPy's searches, diffusers' tables, finite differences and its own promises.

mod ablation;
mod brownian;
mod calibration;
mod derivatives;
mod hso_golden;
mod lifecycle;
mod mixture;
mod noise_golden;
mod properties;
mod solver_parity;
mod solvers;
mod stable_diffusion;
mod support;
mod unet2d;
