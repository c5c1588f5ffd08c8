//! The cache of one sequence: a list of chunks.

use super::fork::Fork;
use super::shape::{POSITIONS, Shape};
use super::slab::{Chunk, Slabs};
use crate::error::Result;
use fastdecode_simd::{Line, memory};
use std::sync::Arc;

/// The KV cache of one sequence. A clone is a fork: it shares all chunks, and the two then diverge.
#[derive(Clone)]
pub struct Sequence {
    /// Keys and values of sixteen positions each, in all layers and heads. They are written only through
    /// `head_mut` and by a `Fork`, which have them alone. Places that have not been written hold
    /// unspecified floats and change no result: scores of positions that do not exist are replaced, and
    /// their values are not read.
    chunks: Vec<Arc<Chunk>>,
    length: usize,
    shape: Shape,
    slabs: Arc<Slabs>,
}

/// The keys and values of one head in a chunk.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Line d holds dimension d of the sixteen positions.
    pub keys: &'a [Line],
    /// `Shape::across` lines for each position.
    pub values: &'a [Line],
}

impl Sequence {
    /// An empty sequence.
    pub(crate) fn new(shape: Shape, slabs: Arc<Slabs>) -> Self {
        Self { chunks: Vec::new(), length: 0, shape, slabs }
    }

    /// A clone, where the system may refuse the memory for its list of chunks.
    pub(crate) fn fork(&self) -> Result<Self> {
        let mut chunks = memory::with_room(self.chunks.len())?;
        chunks.extend_from_slice(&self.chunks);
        let slabs = Arc::clone(&self.slabs);
        Ok(Self { chunks, length: self.length, shape: self.shape, slabs })
    }

    /// The number of its tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Chunks that this sequence shares with `other`.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> usize {
        self.chunks.iter().zip(&other.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Positions that there are chunks for.
    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * POSITIONS
    }

    /// Makes room for `count` more positions, which this sequence has alone once `forks` are made.
    pub(super) fn reserve(&mut self, count: usize, forks: &mut Vec<Fork>) -> Result<()> {
        memory::check()?;
        let mut filled = self.length % POSITIONS;
        // More than one chunk where positions were reserved and then not written.
        for chunk in self.chunks.iter_mut().skip(self.length / POSITIONS) {
            Fork::diverge(chunk, filled, &self.slabs, forks)?;
            filled = 0;
        }
        let more = (self.length + count).div_ceil(POSITIONS).saturating_sub(self.chunks.len());
        memory::reserve(&mut self.chunks, more)?;
        while self.capacity() < self.length + count {
            self.chunks.push(Arc::new(self.slabs.take()?));
        }
        Ok(())
    }

    /// Counts positions that have been written.
    pub(super) fn advance(&mut self, count: usize) {
        self.length += count;
    }

    /// One head of one layer in a chunk.
    ///
    /// # Safety
    /// While the result lives, nothing writes to this head of this chunk.
    #[inline(always)]
    pub(crate) unsafe fn head(&self, chunk: usize, layer: usize, head: usize) -> Head<'_> {
        let (place, count) = self.place(chunk, layer, head);
        // SAFETY: that many lines begin at the place, and nothing writes to them, as the caller promises.
        let lines = unsafe { std::slice::from_raw_parts(place, count) };
        let (keys, values) = lines.split_at(self.shape.width);
        Head { keys, values }
    }

    /// The mutable keys and values of one head of one layer in a chunk.
    ///
    /// # Safety
    /// This sequence has reserved the chunk, and while the result lives nothing else uses this head of it.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller promises exclusive use")]
    pub(crate) unsafe fn head_mut(
        &self,
        chunk: usize,
        layer: usize,
        head: usize,
    ) -> (&mut [Line], &mut [Line]) {
        let (place, count) = self.place(chunk, layer, head);
        // SAFETY: that many lines begin at the place, and nothing else uses them, as the caller promises.
        let lines = unsafe { std::slice::from_raw_parts_mut(place, count) };
        lines.split_at_mut(self.shape.width)
    }

    #[inline(always)]
    fn place(&self, chunk: usize, layer: usize, head: usize) -> (*mut Line, usize) {
        let count = self.shape.head_lines();
        (self.chunks[chunk].part(self.shape.head_start(layer, head), count), count)
    }
}
