//! Sequences with room for the positions of a forward pass.

use super::demand::Demand;
use super::fork::Fork;
use super::layout::Layout;
use super::sequence::Sequence;
use super::shape::POSITIONS;
use super::slab::Chunk;
use crate::error::Result;
use fastdecode_simd::{Session, memory};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Sequences borrowed for some passes, with all chunks that these will write to. A sequence cannot be cloned
/// or appended to elsewhere while it is borrowed.
///
/// Before each pass, [`Self::open`] gives a sequence the chunks of its new positions, and after it,
/// [`Self::advance`] takes away those that have slid out of a window, for the passes to come.
pub(crate) struct Reserved<'a> {
    sequences: &'a mut [Sequence],
    layout: &'a Layout,
    /// For each kind of layers, chunks that no sequence holds.
    spares: Vec<Vec<Arc<Chunk>>>,
}

impl<'a> Reserved<'a> {
    /// Reserves `count(i)` positions in sequence i, which are written in passes of `pass` positions: the
    /// sequences' new positions one after the other, cut at every multiple of `pass`.
    ///
    /// # Errors
    /// If the system refuses memory. The sequences are then as they were.
    ///
    /// # Panics
    /// If a sequence belongs to a model of another layout.
    pub fn new(
        sequences: &'a mut [Sequence],
        count: impl Fn(usize) -> usize,
        pass: usize,
        layout: &'a Layout,
        session: &mut Session<'_>,
    ) -> Result<Self> {
        let ours = |sequence: &Sequence| sequence.layout().is_like(layout);
        assert!(sequences.iter().all(ours), "of another model");
        let mut forks = Vec::new();
        let diverged = sequences.iter_mut().try_for_each(|one| one.diverge(&mut forks));
        // Even after an error: sequences that have diverged lack what their new chunks replaced.
        Fork::make_all(&forks, session);
        diverged?;
        let mut spares = memory::with_room(layout.kinds().len())?;
        for (index, kind) in layout.kinds().iter().enumerate() {
            let mut demand = Demand::new(pass);
            for (i, sequence) in sequences.iter_mut().enumerate() {
                let length = sequence.len();
                let strip = sequence.strip_mut(index);
                strip.make_room(demand.add(kind, strip.range(), length..length + count(i)))?;
            }
            let count = demand.most();
            let mut chunks = memory::with_room(count)?;
            for _ in 0..count {
                chunks.push(Arc::new(kind.slabs.take()?));
            }
            // They are taken from the end.
            chunks.reverse();
            spares.push(chunks);
        }
        Ok(Self { sequences, layout, spares })
    }

    /// Gives a sequence the chunks of its next `count` positions, as far as they were reserved.
    pub fn open(&mut self, sequence: usize, count: usize) {
        let sequence = &mut self.sequences[sequence];
        let end = (sequence.len() + count).div_ceil(POSITIONS);
        for (kind, spares) in self.spares.iter_mut().enumerate() {
            sequence.strip_mut(kind).extend(end, || spares.pop());
        }
    }

    /// The positions that a sequence has room for.
    pub fn room(&self, sequence: usize) -> Range<usize> {
        self.sequences[sequence].room()
    }

    /// Counts positions of a sequence that have been written, and takes the chunks that have slid out of a
    /// window.
    ///
    /// # Panics
    /// If there was no room for them.
    pub fn advance(&mut self, sequence: usize, count: usize) {
        let sequence = &mut self.sequences[sequence];
        assert!(count <= sequence.room().len());
        sequence.advance(count);
        let length = sequence.len();
        for (index, (kind, spares)) in self.layout.kinds().iter().zip(&mut self.spares).enumerate()
        {
            sequence.strip_mut(index).slide(kind.first_kept(length), |mut chunk| {
                // One that another sequence holds as well stays with that.
                if spares.len() < spares.capacity() && Arc::get_mut(&mut chunk).is_some() {
                    spares.push(chunk);
                }
            });
        }
    }

    /// The layout of the sequences.
    pub fn layout(&self) -> &Layout {
        self.layout
    }
}

impl Deref for Reserved<'_> {
    type Target = [Sequence];

    fn deref(&self) -> &[Sequence] {
        self.sequences
    }
}

#[cfg(test)]
mod tests;
