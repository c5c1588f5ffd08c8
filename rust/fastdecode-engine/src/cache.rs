//! The KV cache: each row a list of chunks of sixteen positions, shared until they are written.
//!
//! A copy of a [`Sequence`] shares all of its chunks, so samples of one prompt hold it once and
//! beams fork without copying; only a last chunk that is not full is copied, by the row that
//! appends to it, when another row has it too.

use crate::config::Config;
use crate::error::Result;
use crate::fork::Fork;
use crate::slab::{Chunk, Slabs};
use fastdecode_simd::{LANES, Line};
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

    /// Layers.
    pub(crate) fn layers(self) -> usize {
        self.layers
    }

    /// Where, in a chunk with so many positions, a layer has anything: first lines and their numbers.
    pub(crate) fn written(
        self,
        layer: usize,
        filled: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        let head = self.head_lines();
        let heads = layer * self.heads..(layer + 1) * self.heads;
        heads.map(move |index| (index * head, self.width + filled * self.across))
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
    /// through `head_mut` and where rows part (`Fork`), whose callers vouch that nobody else uses
    /// them meanwhile. Places that have not been written hold anything, and change nothing: scores of
    /// positions that are not there are replaced, and their values are not read.
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

    /// Makes room for `count` positions more, which are this row's alone once `forks` have been made.
    pub(crate) fn reserve(&mut self, count: usize, forks: &mut Vec<Fork>) -> Result<()> {
        let mut filled = self.length % POSITIONS;
        // More than one where room was made for positions that were not written after all.
        for chunk in self.chunks.iter_mut().skip(self.length / POSITIONS) {
            Fork::part(chunk, filled, &self.slabs, forks)?;
            filled = 0;
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

#[cfg(test)]
mod tests {
    use super::{POSITIONS, Sequence, Shape};
    use crate::fork::Fork;
    use crate::slab::Slabs;
    use fastdecode_simd::Pool;
    use std::sync::Arc;

    const SHAPE: Shape = Shape { layers: 2, heads: 3, width: 20, across: 2 };

    fn write(sequence: &Sequence, x: f32) {
        for (layer, head) in (0..SHAPE.layers).flat_map(|l| (0..SHAPE.heads).map(move |h| (l, h))) {
            let position = sequence.len();
            // SAFETY: the position has been reserved, and this thread alone uses the chunk.
            let (keys, values) = unsafe { sequence.head_mut(position / POSITIONS, layer, head) };
            let lane = position % POSITIONS;
            for line in keys.iter_mut() {
                line.0[lane] = x;
            }
            values[lane * SHAPE.across..][..SHAPE.across].fill(super::Line([x; 16]));
        }
    }

    fn values(sequence: &Sequence) -> Vec<f32> {
        (0..sequence.len())
            .map(|position| {
                let at = |layer, head| {
                    // SAFETY: nobody writes.
                    let head = unsafe { sequence.head(position / POSITIONS, layer, head) };
                    let lane = position % POSITIONS;
                    assert!(head.keys.iter().all(|k| k.0[lane] == head.keys[0].0[lane]));
                    assert_eq!(head.values[lane * 2], head.values[lane * 2 + 1]);
                    assert_eq!(head.values[lane * 2].0, [head.keys[0].0[lane]; 16]);
                    head.keys[0].0[lane]
                };
                assert!((0..SHAPE.layers * SHAPE.heads).all(|i| at(i / 3, i % 3) == at(0, 0)));
                at(0, 0)
            })
            .collect()
    }

    /// Room for one position in each sequence; how many chunks were copied.
    fn reserve(sequences: &mut [Sequence]) -> usize {
        let mut forks = Vec::new();
        for sequence in sequences {
            sequence.reserve(1, &mut forks).unwrap();
        }
        Fork::make(&forks, SHAPE, &mut Pool::new().session(2));
        forks.len()
    }

    #[test]
    fn all_but_one_of_those_that_part_copy() {
        let slabs = Arc::new(Slabs::new(SHAPE.lines()));
        let mut sequences = vec![Sequence::new(SHAPE, slabs)];
        let mut x = 0.0;
        let mut expected = vec![Vec::new()];
        for step in 0..3 * POSITIONS {
            if step % 5 == 3 {
                // Three of each of the first two.
                sequences =
                    (0..6).map(|i| sequences[(i / 3).min(sequences.len() - 1)].clone()).collect();
                expected =
                    (0..6).map(|i| expected[(i / 3).min(expected.len() - 1)].clone()).collect();
            }
            let copies = reserve(&mut sequences);
            let parting = step % 5 == 3 && step % POSITIONS != 0;
            // At first, and where the second was one of three of the first, all come from one.
            assert!(
                if parting { copies == 4 || copies == 5 } else { copies == 0 },
                "{step}: {copies}"
            );
            for (sequence, expected) in sequences.iter_mut().zip(&mut expected) {
                x += 1.0;
                write(sequence, x);
                sequence.advance(1);
                expected.push(x);
            }
        }
        for (sequence, expected) in sequences.iter().zip(&expected) {
            assert_eq!(values(sequence), *expected);
        }
    }

    #[test]
    fn room_that_was_not_used_is_shared_by_nobody() {
        let slabs = Arc::new(Slabs::new(SHAPE.lines()));
        let mut first = Sequence::new(SHAPE, slabs);
        reserve(std::slice::from_mut(&mut first));
        let mut sequences = [first.clone(), first];
        assert_eq!(reserve(&mut sequences), 0);
        assert_eq!(sequences[0].shared_with(&sequences[1]), 0);
    }
}
