//! Randomness that is looked up, not consumed: counter-based, keyed by seed and place.

pub mod key;
pub mod philox;
mod reduction;
