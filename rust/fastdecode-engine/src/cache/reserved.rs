//! Sequences with room for the positions of a pass.

use super::fork::Fork;
use super::sequence::Sequence;
use super::shape::Shape;
use crate::error::Result;
use fastdecode_simd::Session;
use std::ops::{Deref, Range};

/// Sequences borrowed for a forward pass, each with chunks of its own from its length to its reserved
/// end. A sequence cannot be cloned or appended to elsewhere while it is borrowed.
pub(crate) struct Reserved<'a>(&'a mut [Sequence]);

impl<'a> Reserved<'a> {
    /// Reserves `counts[i]` positions in sequence i.
    ///
    /// # Errors
    /// If the system refuses memory. The sequences are then as they were.
    ///
    /// # Panics
    /// If a sequence belongs to a model of another shape.
    pub fn new(
        sequences: &'a mut [Sequence],
        counts: impl Iterator<Item = usize>,
        shape: Shape,
        session: &mut Session<'_>,
    ) -> Result<Self> {
        assert!(sequences.iter().all(|sequence| sequence.shape() == shape), "of another model");
        let mut forks = Vec::new();
        let reserved = sequences
            .iter_mut()
            .zip(counts)
            .try_for_each(|(sequence, count)| sequence.reserve(count, &mut forks));
        // Even after an error: sequences that have diverged lack what their new chunks replaced.
        Fork::make_all(&forks, shape, session);
        reserved?;
        Ok(Self(sequences))
    }

    /// The positions of a sequence that may be written.
    pub fn room(&self, sequence: usize) -> Range<usize> {
        self.0[sequence].len()..self.0[sequence].capacity()
    }

    /// Counts positions of a sequence that have been written.
    ///
    /// # Panics
    /// If they were not reserved.
    pub fn advance(&mut self, sequence: usize, count: usize) {
        assert!(count <= self.room(sequence).len());
        self.0[sequence].advance(count);
    }
}

impl Deref for Reserved<'_> {
    type Target = [Sequence];

    fn deref(&self) -> &[Sequence] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Reserved;
    use crate::cache::{POSITIONS, Sequence, Shape, Slabs};
    use fastdecode_simd::{Line, Pool};
    use std::sync::Arc;

    const SHAPE: Shape = Shape::new(2, 3, 20);

    /// Appends a position of `x` to each sequence. Returns how many of their chunks are new copies.
    fn append(pool: &Pool, sequences: &mut [Sequence], x: &[f32]) -> usize {
        let before: Vec<Vec<usize>> = sequences.iter().map(places).collect();
        let mut session = pool.session(2);
        let ones = std::iter::repeat(1);
        let mut reserved = Reserved::new(sequences, ones, SHAPE, &mut session).unwrap();
        for (index, x) in x.iter().enumerate() {
            let position = reserved.room(index).start;
            let lane = position % POSITIONS;
            for (layer, head) in all_heads() {
                // SAFETY: the position is reserved, and this thread alone uses the chunk.
                let (keys, values) =
                    unsafe { reserved[index].head_mut(position / POSITIONS, layer, head) };
                for line in keys.iter_mut() {
                    line.0[lane] = *x;
                }
                values[lane * SHAPE.across..][..SHAPE.across].fill(Line([*x; 16]));
            }
            reserved.advance(index, 1);
        }
        let after: Vec<Vec<usize>> = sequences.iter().map(places).collect();
        before
            .iter()
            .zip(&after)
            .map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).count())
            .sum()
    }

    fn all_heads() -> impl Iterator<Item = (usize, usize)> {
        (0..SHAPE.layers).flat_map(|layer| (0..SHAPE.heads).map(move |head| (layer, head)))
    }

    /// Where each chunk lies.
    fn places(sequence: &Sequence) -> Vec<usize> {
        (0..sequence.len().div_ceil(POSITIONS))
            // SAFETY: nobody writes.
            .map(|chunk| unsafe { sequence.head(chunk, 0, 0) }.keys.as_ptr().addr())
            .collect()
    }

    fn values(sequence: &Sequence) -> Vec<f32> {
        (0..sequence.len())
            .map(|position| {
                let at = |(layer, head)| {
                    // SAFETY: nobody writes.
                    let head = unsafe { sequence.head(position / POSITIONS, layer, head) };
                    let lane = position % POSITIONS;
                    assert!(head.keys.iter().all(|k| k.0[lane] == head.keys[0].0[lane]));
                    assert_eq!(head.values[lane * 2], head.values[lane * 2 + 1]);
                    assert_eq!(head.values[lane * 2].0, [head.keys[0].0[lane]; 16]);
                    head.keys[0].0[lane]
                };
                assert!(all_heads().all(|head| at(head) == at((0, 0))));
                at((0, 0))
            })
            .collect()
    }

    #[test]
    fn all_sequences_but_one_copy_a_shared_chunk() {
        let (pool, slabs) = (Pool::new(), Arc::new(Slabs::new(SHAPE.chunk_lines())));
        let mut sequences = vec![Sequence::new(SHAPE, slabs)];
        let mut x = 0.0;
        let mut expected = vec![Vec::new()];
        for step in 0..3 * POSITIONS {
            if step % 5 == 3 {
                // Three of each of the first two.
                let second = sequences.len().min(2) - 1;
                sequences = (0..6).map(|i| sequences[(i / 3).min(second)].clone()).collect();
                expected = (0..6).map(|i| expected[(i / 3).min(second)].clone()).collect();
            }
            let news: Vec<f32> = sequences.iter().map(|_| (x += 1.0, x).1).collect();
            let copies = append(&pool, &mut sequences, &news);
            let diverging = step % 5 == 3 && step % POSITIONS != 0;
            // At first all six come from one sequence, later from two.
            assert!(
                if diverging { copies == 4 || copies == 5 } else { copies == 0 },
                "{step}: {copies}"
            );
            for (expected, x) in expected.iter_mut().zip(news) {
                expected.push(x);
            }
        }
        for (sequence, expected) in sequences.iter().zip(&expected) {
            assert_eq!(values(sequence), *expected);
        }
    }

    #[test]
    fn unused_room_is_shared_by_nobody() {
        let (pool, slabs) = (Pool::new(), Arc::new(Slabs::new(SHAPE.chunk_lines())));
        let mut session = pool.session(1);
        let mut first = [Sequence::new(SHAPE, slabs)];
        Reserved::new(&mut first, [1].into_iter(), SHAPE, &mut session).unwrap();
        let [first] = first;
        let mut sequences = [first.clone(), first];
        Reserved::new(&mut sequences, [1, 1].into_iter(), SHAPE, &mut session).unwrap();
        assert_eq!(sequences[0].shared_with(&sequences[1]), 0);
    }
}
