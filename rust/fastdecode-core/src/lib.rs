//! The decoding core of fastdecode: from logits to token ids, exactly, replayably and fast.
//!
//! Pure Rust over `&[f32]`; the Python binding is a crate of its own. See [`law::weight`] for the
//! law that is drawn from, [`rng::key`] for the randomness, [`row::order`] for the order of ties.

mod batch;
pub mod beam;
pub mod decode_state;
pub mod error;
pub mod law;
pub mod parameter;
pub mod pipeline;
pub mod processors;
pub mod queries;
pub mod rng;
pub mod row;
pub mod truncation;
mod workspace;

pub use beam::{Beam, BeamParams, BeamState};
pub use decode_state::DecodeState;
pub use error::{Error, Result};
pub use fastdecode_simd::{Level, math};
pub use law::{Draw, Law};
pub use pipeline::ledger::Ledger;
pub use pipeline::sampler::Sampler;
pub use pipeline::{Pipeline, PipelineParams, Request, Sampled, Stage, parameters};
pub use processors::{
    DryParams, History, ProcessorParams, ProcessorWorkspace, Processors, SequenceHistory,
};
pub use rng::key::{Key, RNG_VERSION};
pub use rng::{key, philox};
pub use row::logits::{Elements, Logits};
pub use row::order::Candidate;
pub use truncation::DrawContext;
pub use truncation::{DynamicTemperature, Mirostat, Params, Xtc};
pub use workspace::Workspace;
