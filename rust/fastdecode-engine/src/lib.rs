//! Forward passes of language models on a CPU: near the speed of memory, and the same bits everywhere.
//!
//! Every sum has an order that is part of its operation's definition, and exp is computed by a fixed
//! sequence of operations. So the logits of a sequence are the same bits alone or in any batch, joining late
//! or early, as a whole prompt or token by token, on any number of threads and on any instruction set with
//! IEEE arithmetic.
//!
//! A [`Model`] is read from a [`Config`] and [`Tensors`], or from a [`PackedFile`]. A [`Batch`] holds the sequences that step
//! together; [`Model::forward`] is the same for callers who hold [`Sequence`]s themselves.

mod arena;
mod batch;
mod cache;
mod error;
pub mod gguf;
mod model;
mod models;
mod ops;
mod packed_error;
mod weights;
mod workspace;

pub use batch::Batch;
pub use cache::{CacheFormat, Sequence};
pub use error::{Error, ErrorKind, Result};
pub use fastdecode_simd::Level;
pub use model::{Model, Wanted};
pub use models::Config;
pub use ops::bfloat16_instruction;
pub use packed_error::PackedError;
pub use weights::{
    Checkpoint, Elements, Encoding, Format, GgufModel, LAYOUT, Packed, PackedFile, Storage, Tensor,
    Tensors, WeightsFile,
};
pub use workspace::Workspace;
