//! Truncations: which tokens of a row can be drawn at all.

pub mod context;
pub mod params;
pub(crate) mod survivors;
