//! The cache of one sequence.

use super::fork::Fork;
use super::layout::Layout;
use super::shape::POSITIONS;
use super::strip::Strip;
use crate::error::{Error, Result};
use fastdecode_simd::memory;
use std::ops::Range;
use std::sync::Arc;

/// The KV cache of one sequence. A clone is a fork: it shares all chunks, and the two then diverge.
#[derive(Clone)]
pub struct Sequence {
    /// One for each kind of layers.
    strips: Vec<Strip>,
    length: usize,
    layout: Arc<Layout>,
}

impl Sequence {
    /// An empty sequence.
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Self { strips: vec![Strip::default(); layout.kinds().len()], length: 0, layout }
    }

    /// A clone, where the system may refuse the memory for its lists of chunks.
    pub(crate) fn fork(&self) -> Result<Self> {
        let mut strips = memory::with_room(self.strips.len())?;
        for strip in &self.strips {
            strips.push(strip.fork()?);
        }
        Ok(Self { strips, length: self.length, layout: Arc::clone(&self.layout) })
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

    /// Cuts it back to its first `length` tokens. Its next logits have the same bits as after a
    /// prompt of these tokens. Memory that it alone held is given back; forks keep what they share.
    ///
    /// # Errors
    /// For a length greater than its own, and for one below [`Self::shortest`]. It is then unchanged.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        self.check_truncate(|| "length".to_owned(), length as i128)?;
        self.cut(length);
        Ok(())
    }

    /// The least length, beside zero, that it can be cut back to. Layers with a window keep what the next token
    /// attends to and the 32 positions before that, so this is at least 32 tokens below the greatest length
    /// that it has had. It is zero where nothing has been given back: always where no layer has a window.
    #[must_use]
    pub fn shortest(&self) -> usize {
        let kinds = self.layout.kinds().iter().zip(&self.strips);
        kinds.map(|(kind, strip)| kind.shortest(strip.range().start)).max().unwrap_or(0)
    }

    /// Refuses a length that it cannot be cut back to, which the caller calls `name()`.
    pub(crate) fn check_truncate(&self, name: impl Fn() -> String, length: i128) -> Result<()> {
        let (tokens, shortest) = (self.length, self.shortest());
        if !(0..=tokens as i128).contains(&length) {
            return Err(Error::Truncate { name: name(), length, tokens });
        }
        if 0 < length && length < shortest as i128 {
            return Err(Error::Slid { name: name(), length, tokens, shortest });
        }
        Ok(())
    }

    /// Cuts it back to a length that has been checked.
    pub(crate) fn cut(&mut self, length: usize) {
        for strip in &mut self.strips {
            strip.truncate(length);
        }
        self.length = length;
    }

    /// Bytes of the chunks that it holds, alone or with other sequences.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let kinds = self.layout.kinds().iter().zip(&self.strips);
        kinds.map(|(kind, strip)| strip.len() * kind.shape.chunk_bytes()).sum()
    }

    /// Chunks that this sequence shares with `other`.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> usize {
        self.strips.iter().zip(&other.strips).map(|(a, b)| a.shared_with(b)).sum()
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The chunks for one kind of layers.
    #[inline(always)]
    pub(crate) fn strip(&self, kind: usize) -> &Strip {
        &self.strips[kind]
    }

    /// The positions that its chunks have room for.
    pub(super) fn room(&self) -> Range<usize> {
        let ends = self.strips.iter().map(|strip| strip.range().end * POSITIONS);
        self.length..ends.min().unwrap_or(0)
    }

    /// Makes sure that, once `forks` are made, it has the chunks alone that it is yet to write to.
    pub(super) fn diverge(&mut self, forks: &mut Vec<Fork>) -> Result<()> {
        memory::check()?;
        let kinds = self.layout.kinds().iter().zip(&mut self.strips);
        kinds.into_iter().try_for_each(|(kind, strip)| strip.diverge(self.length, kind, forks))
    }

    pub(super) fn strip_mut(&mut self, kind: usize) -> &mut Strip {
        &mut self.strips[kind]
    }

    /// Counts positions that have been written.
    pub(super) fn advance(&mut self, count: usize) {
        self.length += count;
    }
}
