//! GGUF files: llama.cpp's container of metadata and quantised tensors.
//!
//! A [`Gguf`] is a file whose header has been checked. Nothing in it is trusted: every count and length is
//! compared with the size of the file before memory is taken for it, so that opening any bytes takes no
//! allocation larger than the file and never panics. The file is read at positions and not mapped, so that
//! another process that truncates it causes an error and no signal.
//!
//! The container: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Values of quantised tensors
//! are those that the Python package `gguf`, which llama.cpp maintains, gives; see [`Encoding`].

mod config;
mod dequantise;
mod encoding;
mod error;
mod file;
mod integers;
mod k_quants;
mod source;
mod value;
mod weights;

pub(crate) use dequantise::widen_halves;
pub use encoding::Encoding;
pub use error::{Error, Place, Result};
pub use file::{Gguf, TensorInfo};
pub(crate) use integers::Integers;
pub use source::ReadAt;
pub use value::{Array, Value, ValueKind};
pub use weights::Weight;
