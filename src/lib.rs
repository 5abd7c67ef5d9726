//! placeholder crate docs
pub mod api;
pub mod cli;
pub mod hso;
pub mod objective;
pub mod optimize;
pub mod schedule;
