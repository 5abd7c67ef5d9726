//! The real binary, driven over real sockets and a real command line.

mod bad_input;
mod calibration;
mod cluster;
mod command_line;
mod databases;
mod disk_full;
mod main_path;
mod queue;
mod stable_diffusion;
mod store;
mod support;
mod upgrade;
mod webhooks;
