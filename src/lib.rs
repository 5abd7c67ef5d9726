//! placeholder crate docs
pub mod schedule;
