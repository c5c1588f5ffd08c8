//! The KV cache: each sequence a list of chunks of sixteen positions, shared until they are written to.
//!
//! A clone of a [`Sequence`] shares all of its chunks, so samples of one prompt hold it once and beams
//! fork without copying. Only a last chunk that is not full is copied, by the sequence that appends to
//! it, if another sequence has it too.

mod fork;
mod reserved;
mod sequence;
mod shape;
mod slab;

pub(crate) use reserved::Reserved;
pub(crate) use sequence::Head;
pub use sequence::Sequence;
pub(crate) use shape::{POSITIONS, Shape};
pub(crate) use slab::Slabs;
