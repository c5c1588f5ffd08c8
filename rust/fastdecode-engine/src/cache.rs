//! The KV cache: each row a list of chunks of sixteen positions, shared until they are written.
//!
//! A copy of a [`Sequence`] shares all of its chunks, so samples of one prompt hold it once and
//! beams fork without copying; only a last chunk that is not full is copied, by the row that
//! appends to it, when another row has it too.

use crate::config::Config;
use crate::error::Result;
use crate::lanes::{LANES, Line};
use crate::slab::{Chunk, Slabs};
use std::sync::Arc;

/// Positions of a chunk: the lanes of a vector.
pub const POSITIONS: usize = LANES;

/// The sizes of a model's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    layers: usize,
    heads: usize,
    /// Width of a head.
    pub width: usize,
    /// Lines of a head's values at one position.
    pub across: usize,
}

impl Shape {
    /// For a model.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let width = config.head_width();
        Self { layers: config.n_layer, heads: config.n_head, width, across: width.div_ceil(LANES) }
    }

    /// Lines of one head in a chunk: its keys, a line for each dimension with the positions as
    /// lanes, then its values, position by position.
    fn head_lines(self) -> usize {
        self.width + POSITIONS * self.across
    }

    pub(crate) fn lines(self) -> usize {
        self.layers * self.heads * self.head_lines()
    }

    /// Bytes of one position.
    #[must_use]
    pub fn bytes_per_token(self) -> usize {
        self.lines() * size_of::<Line>() / POSITIONS
    }
}

/// The keys and values of one head in a chunk.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Line d holds dimension d of the sixteen positions.
    pub keys: &'a [Line],
    /// `across` lines for each position.
    pub values: &'a [Line],
}

/// The cache of one row. A clone is a fork: it shares what there is, and both go on separately.
#[derive(Clone)]
pub struct Sequence {
    /// Keys and values of sixteen positions each, in all layers and heads. They are written only
    /// through `head_mut`, whose callers vouch that nobody else uses them meanwhile. Places that have
    /// not been written hold anything, and change nothing: scores of positions that are not there are
    /// replaced, and their values are not read.
    chunks: Vec<Arc<Chunk>>,
    length: usize,
    shape: Shape,
    slabs: Arc<Slabs>,
}

impl Sequence {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(shape: Shape, slabs: Arc<Slabs>) -> Self {
        Self { chunks: Vec::new(), length: 0, shape, slabs }
    }

    /// Positions that are filled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Makes room for `count` positions more, which are then this row's alone.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        if !self.length.is_multiple_of(POSITIONS)
            && count > 0
            && let Some(last) = self.chunks.get_mut(self.length / POSITIONS)
            && Arc::get_mut(last).is_none()
        {
            // SAFETY: chunks are written within a forward pass alone, and it holds all sequences that it
            // writes to; a chunk that two sequences share is never written.
            *last = Arc::new(unsafe { self.slabs.copy(last) }?);
        }
        while self.chunks.len() * POSITIONS < self.length + count {
            self.chunks.push(Arc::new(self.slabs.take()?));
        }
        Ok(())
    }

    /// Counts positions that have been written.
    pub(crate) fn advance(&mut self, count: usize) {
        debug_assert!(self.length + count <= self.chunks.len() * POSITIONS);
        self.length += count;
    }

    /// One head of one layer in a chunk.
    ///
    /// # Safety
    /// While the result lives, nobody writes to this head.
    #[inline(always)]
    pub(crate) unsafe fn head(&self, chunk: usize, layer: usize, head: usize) -> Head<'_> {
        let (place, count) = self.place(chunk, layer, head);
        // SAFETY: the place has so many lines, and nobody writes there, as promised.
        let lines = unsafe { std::slice::from_raw_parts(place, count) };
        let (keys, values) = lines.split_at(self.shape.width);
        Head { keys, values }
    }

    /// The same, to write a reserved position.
    ///
    /// # Safety
    /// The chunk has been reserved by this sequence, and while the result lives nobody else uses
    /// this head.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the exclusivity is the caller's promise")]
    pub(crate) unsafe fn head_mut(
        &self,
        chunk: usize,
        layer: usize,
        head: usize,
    ) -> (&mut [Line], &mut [Line]) {
        let (place, count) = self.place(chunk, layer, head);
        // SAFETY: the place has so many lines, and nobody else uses them, as promised.
        let lines = unsafe { std::slice::from_raw_parts_mut(place, count) };
        lines.split_at_mut(self.shape.width)
    }

    #[inline(always)]
    fn place(&self, chunk: usize, layer: usize, head: usize) -> (*mut Line, usize) {
        let count = self.shape.head_lines();
        let first = (layer * self.shape.heads + head) * count;
        (self.chunks[chunk].part(first, count), count)
    }

    /// Chunks that this sequence shares with `other`.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> usize {
        self.chunks.iter().zip(&other.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    }
}
