//! The decoding core of fastdecode: from logits to token ids, exactly, replayably and fast.
//!
//! Pure Rust over `&[f32]`; the Python binding is a crate of its own. See [`law::weight`] for the
//! law that is drawn from, [`rng::key`] for the randomness, [`row::order`] for what happens on ties.

pub mod beam;
pub mod error;
pub mod law;
pub mod math;
pub mod pipeline;
pub mod processors;
pub mod rng;
pub mod row;
pub mod truncation;

pub use beam::{Beam, BeamParams, BeamState};
pub use error::{Error, Result};
pub use fastdecode_simd::Level;
pub use law::ledger::Ledger;
pub use law::logprob;
pub use law::{Draw, Law};
pub use pipeline::sampler::{DrawContext, Sampler, Workspace};
pub use pipeline::{Pipeline, Request};
pub use processors::{
    DryParams, History, ProcessorParams, ProcessorWorkspace, Processors, SequenceHistory,
};
pub use rng::key::{Key, RNG_VERSION};
pub use rng::{key, philox};
pub use row::logits::{Elements, Logits};
pub use row::order::Candidate;
pub use row::{scan, select};
pub use truncation::params::{DynamicTemperature, Mirostat, Params, Xtc};
