//! The decoding core of fastdecode: from logits to token ids, exactly, replayably and fast.
//!
//! Pure Rust over `&[f32]`; the Python binding is a crate of its own. See [`weight`] for the law
//! that is drawn from, [`key`] for the randomness, [`order`] for what happens on ties.

pub mod beam;
pub mod edits;
mod entropy;
pub mod error;
mod estimate;
pub mod exp;
mod groups;
pub mod key;
pub mod lanes;
pub mod law;
pub mod ledger;
pub mod level;
pub mod ln;
pub mod logits;
pub mod logprob;
mod nucleus;
pub mod order;
pub mod params;
pub mod philox;
mod picked;
pub mod pipeline;
mod reduction;
pub mod sampler;
pub mod scan;
pub mod select;
mod survivors;
pub mod weight;

pub use beam::{Beam, BeamParams, BeamState};
pub use edits::{DryParams, EditParams, EditScratch, Edits, History};
pub use error::{Error, Result};
pub use key::{Key, RNG_VERSION};
pub use law::{Draw, Law};
pub use ledger::Ledger;
pub use level::Level;
pub use logits::{Elements, Logits};
pub use order::Candidate;
pub use params::{DynamicTemperature, Mirostat, Params, Xtc};
pub use pipeline::{Pipeline, Request};
pub use sampler::{Sampler, Scratch, Turn};
