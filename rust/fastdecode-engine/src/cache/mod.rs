//! The KV cache: each sequence lists of chunks of sixteen positions, shared until they are written to.
//!
//! The layers of a model are of one or more kinds: those that attend to all positions, and those of each
//! window. A sequence has a [`Strip`] of chunks for each kind. That of a window holds its last positions
//! only; chunks that no later token attends to are given back after each pass.
//!
//! A clone of a [`Sequence`] shares all of its chunks, so samples of one prompt hold it once and beams
//! fork without copying. Only a last chunk that is not full is copied, by the sequence that appends to
//! it, if another sequence has it too.

mod demand;
mod fork;
mod format;
pub(crate) mod halves;
pub(crate) mod integers;
mod layout;
mod prefixes;
mod reserved;
mod sequence;
mod shape;
mod slab;
mod strip;
pub(crate) mod values;

pub use format::CacheFormat;
pub(crate) use layout::{Layout, Place};
pub(crate) use prefixes::Prefixes;
pub(crate) use reserved::Reserved;
pub use sequence::Sequence;
pub(crate) use shape::{HeadPlace, POSITIONS, Shape};
pub(crate) use strip::{Head, Strip};
