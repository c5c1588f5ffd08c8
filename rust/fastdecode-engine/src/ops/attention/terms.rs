//! The softmax's terms as integers.

use super::rounding::{bytes, largest, split, sums, word};
use crate::cache::POSITIONS;
use crate::weights::{QUAD, ZERO, scale_of};
use fastdecode_simd::{Lanes, Line};

/// Words of a chunk's terms.
pub const WORDS: usize = POSITIONS / QUAD;

/// The terms of a query in a chunk.
#[derive(Clone, Copy, Default)]
pub struct Term {
    /// The first integers, of four positions in each word, and the second ones.
    pub words: [[i32; WORDS]; 2],
    /// -128 times the sums of the first and of the second integers.
    pub offsets: [i32; 2],
    pub scale: f32,
}

/// Multiplies terms by the scales of their values.
#[inline(always)]
pub fn weigh<L: Lanes>(l: L, terms: &mut Line, scales: &Line) {
    l.store(l.mul(l.load(&terms.0), l.load(&scales.0)), &mut terms.0);
}

/// The terms of a query in a chunk as integers.
#[inline(always)]
pub fn round_terms<L: Lanes>(l: L, terms: &Line) -> Term {
    let x = l.load(&terms.0);
    let (scale, inverse) = scale_of(largest(l, l.larger_size(l.splat(0.0), x)));
    let split = split(l, x, l.splat(inverse));
    let mut term = Term { scale, ..Term::default() };
    for (i, (x, sum)) in [split.high, split.low].into_iter().zip(sums(l, split)).enumerate() {
        let bytes = bytes(l, x);
        for (word_of, bytes) in term.words[i].iter_mut().zip(bytes.as_chunks::<QUAD>().0) {
            *word_of = word(*bytes);
        }
        term.offsets[i] = -ZERO * sum;
    }
    term
}
