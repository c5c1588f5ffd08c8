//! A model's weights: how tensors are read, packed and kept.

mod checkpoint;
mod copying;
mod elements;
mod file;
mod format;
mod gguf_model;
mod packed;
mod packing;
mod places;
mod storage;
mod store;
mod tensors;

pub use checkpoint::Checkpoint;
pub(crate) use copying::Orientation;
pub use elements::{Elements, Encoding};
pub use file::WeightsFile;
pub use format::Format;
pub(crate) use format::{
    ACROSS, CHAIN, GROUP, LEAST_OF_BFLOAT16, LINES_OF_4, LINES_OF_8, PAIR, PANEL, QUAD, ZERO,
    ZERO_OF_4, element, rounded_bits, scale_of,
};
#[cfg(test)]
pub(crate) use format::{pack, parts};
pub use gguf_model::GgufModel;
pub use packed::{LAYOUT, Packed, PackedFile};
pub(crate) use packing::{Packing, Part};
pub use storage::Storage;
pub(crate) use store::{Matrix, MatrixView, Table, Vector, Weights, Widest};
pub use tensors::{Tensor, Tensors};
