//! The house in order: dependencies between modules, and the published specification.

mod architecture;
mod openapi;
