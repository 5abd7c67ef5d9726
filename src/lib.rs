//! placeholder crate docs
pub mod hso;
pub mod objective;
pub mod schedule;
