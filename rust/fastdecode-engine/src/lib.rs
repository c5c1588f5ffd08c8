//! GPT-2's forward pass on a CPU: near the speed of memory, and the same bits everywhere.
//!
//! Every sum has an order that is part of the operation's definition (see [`linear`],
//! [`attention`], [`norm`]), and exp is our own (see [`math`]). So a row's logits are the same bits
//! alone or in any batch, joining late or early, as a prompt or token by token, on any number of
//! threads and on any instruction set with IEEE arithmetic.

mod arena;
pub mod attention;
pub mod batch;
pub mod blocks;
pub mod cache;
pub mod config;
pub mod dtype;
pub mod error;
mod fork;
mod integers;
pub mod linear;
pub mod math;
pub mod model;
pub mod norm;
pub mod quantise;
mod slab;
pub mod tensors;
mod tile;
pub mod weights;

pub use batch::Batch;
pub use cache::Sequence;
pub use config::Config;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use fastdecode_simd::Level;
pub use model::{Model, Scratch, Wanted};
pub use tensors::{Elements, Tensor, Tensors};
