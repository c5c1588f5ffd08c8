//! The chunks of one sequence for the layers of one kind.

use super::fork::Fork;
use super::layout::Kind;
use super::shape::{HeadPlace, POSITIONS};
use super::slab::Chunk;
use crate::error::Result;
use fastdecode_simd::{Line, memory};
use std::ops::Range;
use std::sync::Arc;

/// Chunks of consecutive positions: of all positions of a sequence, or of the last ones.
#[derive(Clone, Default)]
pub(crate) struct Strip {
    /// Keys and values of sixteen positions each, in all layers of the kind and their heads. They are written
    /// only through `head_mut` and by a `Fork`, which have them alone. Places that have not been written hold
    /// unspecified bits and change no result: scores of positions that do not exist are replaced, and
    /// their values are not read, or multiplied as integers by zeros.
    chunks: Vec<Arc<Chunk>>,
    /// The index of the first one in the sequence. Those before it have been given back.
    first: usize,
}

/// The keys and values of one head in a chunk.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// The keys of the sixteen positions: in float32, line d holds dimension d of them; see `cache::halves` and
    /// `cache::integers` for the other formats.
    pub keys: &'a [Line],
    /// The values of the sixteen positions; see `cache::values` for float32.
    pub values: &'a [Line],
}

impl Strip {
    /// A clone, where the system may refuse the memory for the list of chunks.
    pub fn fork(&self) -> Result<Self> {
        let mut chunks = memory::with_room(self.chunks.len())?;
        chunks.extend_from_slice(&self.chunks);
        Ok(Self { chunks, first: self.first })
    }

    /// The indices of its chunks in the sequence.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.chunks.len()
    }

    /// The number of its chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// The place of a sequence's chunk in it.
    ///
    /// # Panics
    /// If the chunk has been given back.
    #[inline(always)]
    pub fn place_of(&self, chunk: usize) -> usize {
        assert!(self.first <= chunk);
        chunk - self.first
    }

    /// Makes sure that, once `forks` are made, this strip has all chunks alone that a sequence of `length`
    /// tokens is yet to write to.
    pub(super) fn diverge(
        &mut self,
        length: usize,
        kind: &Kind,
        forks: &mut Vec<Fork>,
    ) -> Result<()> {
        let mut filled = length % POSITIONS;
        // More than one chunk where a pass has failed that was to write them.
        for chunk in self.chunks.iter_mut().skip((length / POSITIONS).saturating_sub(self.first)) {
            Fork::diverge(chunk, filled, kind, forks)?;
            filled = 0;
        }
        Ok(())
    }

    /// Room for the list to have `count` chunks.
    pub fn make_room(&mut self, count: usize) -> Result<()> {
        let more = count.saturating_sub(self.chunks.len());
        Ok(memory::reserve(&mut self.chunks, more)?)
    }

    /// Adds chunks until those before `end` are there, or no more is given.
    pub fn extend(&mut self, end: usize, mut chunk: impl FnMut() -> Option<Arc<Chunk>>) {
        while self.range().end < end
            && let Some(chunk) = chunk()
        {
            self.chunks.push(chunk);
        }
    }

    /// Hands over the chunks before `first`.
    pub fn slide(&mut self, first: usize, give: impl FnMut(Arc<Chunk>)) {
        let count = first.saturating_sub(self.first).min(self.chunks.len());
        self.chunks.drain(..count).for_each(give);
        self.first += count;
    }

    /// Gives back the chunks after the first `length` positions, which it has in part at least, unless
    /// `length` is zero.
    pub fn truncate(&mut self, length: usize) {
        if length == 0 {
            *self = Self::default();
        } else {
            self.chunks.truncate(length.div_ceil(POSITIONS).saturating_sub(self.first));
        }
    }

    /// Chunks that both have.
    pub fn shared_with(&self, other: &Self) -> usize {
        let first = self.first.max(other.first);
        let [ours, theirs] =
            [self, other].map(|strip| strip.chunks.iter().skip(first - strip.first));
        ours.zip(theirs).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    }

    /// One head in the chunk at this place of the strip.
    ///
    /// # Safety
    /// While the result lives, nothing writes to this head of this chunk.
    #[inline(always)]
    pub unsafe fn head(&self, chunk: usize, place: HeadPlace) -> Head<'_> {
        let start = self.chunks[chunk].part(place.start, place.keys + place.values);
        // SAFETY: that many lines begin there, and nothing writes to them, as the caller promises.
        let lines = unsafe { std::slice::from_raw_parts(start, place.keys + place.values) };
        let (keys, values) = lines.split_at(place.keys);
        Head { keys, values }
    }

    /// The mutable keys and values of one head in the chunk at this place of the strip.
    ///
    /// # Safety
    /// The strip has the chunk alone, and while the result lives nothing else uses this head of it.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller promises exclusive use")]
    pub unsafe fn head_mut(&self, chunk: usize, place: HeadPlace) -> (&mut [Line], &mut [Line]) {
        let start = self.chunks[chunk].part(place.start, place.keys + place.values);
        // SAFETY: that many lines begin there, and nothing else uses them, as the caller promises.
        let lines = unsafe { std::slice::from_raw_parts_mut(start, place.keys + place.values) };
        lines.split_at_mut(place.keys)
    }
}
