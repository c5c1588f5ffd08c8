//! Activations as integers, for int8 weights.
//!
//! Each row has one scale for each 128 inputs, the largest of them divided by 127: an outlier, of
//! which GPT-2 has some at fixed places, costs accuracy only beside it. Four inputs are a word, and
//! words lie as the floats do in [`crate::blocks`].

use crate::blocks::{BLOCK_ROWS, Blocks};
use crate::dtype::{CHAIN, QUAD, ZERO, scale_of};
use crate::tile::with_rows;
use fastdecode_simd::{DisjointSlice, Lanes, Level, Line, ROUNDER, Session, kernel};

/// Words of a stretch of inputs that shares a scale.
pub const WORDS: usize = CHAIN / QUAD;

/// The rows of a layer's input.
#[derive(Default)]
pub struct Quantised {
    /// Four integers each, the first in the lowest byte: word `q * height + row` of a block.
    pub words: Vec<i32>,
    /// Of each stretch: `stretch * height + row` of a block.
    pub scales: Vec<f32>,
    /// -128 times the sum of the integers, likewise: weights are kept as bytes from 1 to 255, with
    /// 128 for zero.
    pub offsets: Vec<i32>,
}

/// Mutable parts of one stretch of one block.
struct Stretch<'a> {
    words: &'a mut [i32],
    scales: &'a mut [f32],
    offsets: &'a mut [i32],
}

impl Quantised {
    /// Takes the blocks `x`, `inputs` wide.
    ///
    /// # Panics
    /// Where `x` has another size than it should.
    pub fn fill(
        &mut self,
        level: Level,
        session: &mut Session<'_>,
        blocks: Blocks,
        x: &[f32],
        inputs: usize,
    ) {
        assert_eq!(x.len(), blocks.rows() * inputs);
        let (words, stretches) = (inputs.div_ceil(QUAD), inputs.div_ceil(CHAIN));
        self.words.resize(blocks.rows() * words, 0);
        self.scales.resize(blocks.rows() * stretches, 0.0);
        self.offsets.resize(blocks.rows() * stretches, 0);
        let (to_words, to_scales, to_offsets) = (
            DisjointSlice::new(&mut self.words),
            DisjointSlice::new(&mut self.scales),
            DisjointSlice::new(&mut self.offsets),
        );
        // A row alone takes less time than a second thread needs to hear of it.
        let parts = if blocks.rows() < 2 { 1 } else { session.threads().min(stretches) };
        session.run(blocks.count() * parts, |task| {
            let (block, part) = (task / parts, task % parts);
            let rows = blocks.range(block);
            let height = rows.len();
            for stretch in part * stretches / parts..(part + 1) * stretches / parts {
                let (first, end) = (stretch * CHAIN, inputs.min((stretch + 1) * CHAIN));
                let from = &x[rows.start * inputs..rows.end * inputs][first * height..end * height];
                let word = rows.start * words + stretch * WORDS * height;
                let place = rows.start * stretches + stretch * height;
                let count = (end - first).div_ceil(QUAD);
                // SAFETY: this stretch of this block is this task's alone.
                let to = unsafe {
                    Stretch {
                        words: to_words.part(word..word + count * height),
                        scales: to_scales.part(place..place + height),
                        offsets: to_offsets.part(place..place + height),
                    }
                };
                quantise(level, from, height, to);
            }
        });
    }
}

kernel! {
    fn quantise(x: &[f32], height: usize, to: Stretch<'_>) = quantise_body;
}

#[inline(always)]
fn quantise_body<L: Lanes>(l: L, x: &[f32], height: usize, to: Stretch<'_>) {
    if height == 1 {
        quantise_row(x, to);
    } else {
        with_rows!(height, BLOCK_ROWS, quantise_rows::<L; R, 1>(l, x, to));
    }
}

/// One row: plain loops, which the compiler turns into vectors along it well enough. All is exact,
/// or rounded by the one rule.
#[inline(always)]
fn quantise_row(x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets } = to;
    // Of floats without their sign, the larger one has the larger bits, and NaN the largest.
    let largest = x.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7FFF_FFFF));
    let (scale, inverse) = scale_of(f32::from_bits(largest));
    let mut sum = 0;
    for (word, x) in words.iter_mut().zip(x.chunks(QUAD)) {
        *word = 0;
        for (i, x) in x.iter().enumerate() {
            // NaN times 0, in a row whose scale is NaN, may leave anything in the low bits.
            let bits = (x * inverse + ROUNDER).to_bits();
            sum += bits.cast_signed() << 24 >> 24;
            *word |= ((bits & 0xFF) << (8 * i)).cast_signed();
        }
    }
    (scales[0], offsets[0]) = (scale, -ZERO * sum);
}

/// Several rows: their elements of one input are a vector, short of a few lanes.
#[inline(always)]
fn quantise_rows<L: Lanes, const R: usize, const N: usize>(l: L, x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets } = to;
    let rows = x.as_chunks::<R>().0;
    let mut largest = Line::ZERO;
    let mut sizes = l.splat(0.0);
    for row in rows {
        sizes = l.larger_size(sizes, l.first(row));
    }
    l.store(sizes, &mut largest.0);
    let mut inverse = Line::ZERO;
    for ((scale, inverse), largest) in scales.iter_mut().zip(&mut inverse.0).zip(largest.0) {
        (*scale, *inverse) = scale_of(largest);
    }
    let (inverse, rounder) = (l.load(&inverse.0), l.splat(ROUNDER));
    let mut sums = l.splat(0.0);
    for (words, rows) in words.as_chunks_mut::<R>().0.iter_mut().zip(rows.chunks(QUAD)) {
        let mut rounded = [rounder; QUAD];
        for (rounded, row) in rounded.iter_mut().zip(rows) {
            *rounded = l.add(l.mul(l.first(row), inverse), rounder);
            sums = l.add(sums, l.sub(*rounded, rounder));
        }
        l.put_first(l.low_bytes(rounded), words);
    }
    let mut exact = Line::ZERO;
    l.store(sums, &mut exact.0);
    for (offset, sum) in offsets.iter_mut().zip(exact.0) {
        *offset = -ZERO * sum as i32;
    }
}
