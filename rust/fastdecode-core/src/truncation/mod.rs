//! Truncations: which tokens of a row can be drawn at all.

pub(crate) mod nucleus;
pub mod params;
pub(crate) mod picked;
pub(crate) mod survivors;
