//! fewstep finds few-step sampling schedules for diffusion models and serves them.
//!
//! A request travels one way: [`http`] or [`cli`] read it into the contract of [`api`]; [`jobs`] queue and run it by the rules
//! of [`lifecycle`] (the command line does without); [`optimize`] asks [`hso`], which minimises an [`objective`], for a
//! [`schedule`]; the answer is kept in a [`store`], and [`webhooks`] tell who wants to know. `schedule`, `objective`, `hso` and
//! `lifecycle` are pure: arithmetic on their arguments, the same bits on every machine.

pub mod api;
pub mod calibrate;
pub mod cli;
pub mod denoiser;
pub mod hso;
pub mod http;
pub mod jobs;
pub mod lifecycle;
pub mod objective;
pub mod optimize;
pub mod plot;
pub mod schedule;
pub mod solver;
pub mod store;
pub mod telemetry;
pub mod webhooks;
