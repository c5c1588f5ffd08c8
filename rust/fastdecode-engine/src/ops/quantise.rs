//! Activations as integers, for weights that are integers.
//!
//! Each row has one scale for each 128 inputs, the largest absolute value divided by 127, so that an
//! outlier costs accuracy only among its neighbours. Four inputs are a word, and words lie as the floats
//! do in `row_blocks`.

use super::row_blocks::{BLOCK_ROWS, RowBlocks};
use super::tile::with_rows;
use crate::error::Result;
use crate::weights::{CHAIN, GROUP, QUAD, ZERO, ZERO_OF_4, scale_of};
use fastdecode_simd::{DisjointSlice, Lanes, Level, Line, ROUNDER, Session, kernel, memory};
use std::ops::Range;

/// Words of a stretch: inputs that share a scale.
pub const WORDS: usize = CHAIN / QUAD;
/// Words of a group of int4 weights.
pub const WORDS_OF_GROUP: usize = GROUP / QUAD;
/// Groups of a stretch.
pub const GROUPS: usize = CHAIN / GROUP;

/// The quantised input of a linear layer.
#[derive(Default)]
pub struct Quantised {
    /// Four integers each, the first in the lowest byte: word `q * height + row` of a row block.
    pub words: Vec<i32>,
    /// A scale for each stretch: `stretch * height + row` of a row block.
    pub scales: Vec<f32>,
    /// -128 times the sum of a stretch's integers, in the same places: weights are stored as bytes from 1
    /// to 255, with 128 for zero.
    pub offsets: Vec<i32>,
    /// -8 times the sum of a group's integers, `group * height + row` of a row block: int4 weights are
    /// stored as 0 to 15, with 8 for zero.
    pub groups: Vec<i32>,
    /// Words of a row.
    width: usize,
}

/// The places of one stretch of one row block.
struct Stretch<'a> {
    words: &'a mut [i32],
    scales: &'a mut [f32],
    offsets: &'a mut [i32],
    groups: &'a mut [i32],
}

impl Quantised {
    /// Room for row blocks of this number of rows, `inputs` wide.
    ///
    /// # Errors
    /// If the system refuses memory.
    pub fn reserve(&mut self, rows: usize, inputs: usize) -> Result<()> {
        let (words, stretches) = (inputs.div_ceil(QUAD), inputs.div_ceil(CHAIN));
        memory::room(&mut self.words, rows * words)?;
        memory::room(&mut self.scales, rows * stretches)?;
        memory::room(&mut self.offsets, rows * stretches)?;
        memory::room(&mut self.groups, rows * inputs.div_ceil(GROUP))?;
        Ok(())
    }

    /// The words of rows that make a row block.
    #[inline(always)]
    pub fn words_of(&self, rows: Range<usize>) -> &[i32] {
        &self.words[rows.start * self.width..rows.end * self.width]
    }

    /// Quantises the row blocks `x`, `inputs` wide.
    ///
    /// # Panics
    /// If `x` has another size.
    pub fn fill(
        &mut self,
        level: Level,
        session: &mut Session<'_>,
        blocks: RowBlocks,
        x: &[f32],
        inputs: usize,
    ) {
        assert_eq!(x.len(), blocks.rows() * inputs);
        let (words, stretches) = (inputs.div_ceil(QUAD), inputs.div_ceil(CHAIN));
        let groups = inputs.div_ceil(GROUP);
        self.width = words;
        self.groups.resize(blocks.rows() * groups, 0);
        self.words.resize(blocks.rows() * words, 0);
        self.scales.resize(blocks.rows() * stretches, 0.0);
        self.offsets.resize(blocks.rows() * stretches, 0);
        let (to_words, to_scales, to_offsets, to_groups) = (
            DisjointSlice::new(&mut self.words),
            DisjointSlice::new(&mut self.scales),
            DisjointSlice::new(&mut self.offsets),
            DisjointSlice::new(&mut self.groups),
        );
        // Quantising a single row takes less time than handing a part of it to another thread.
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
                let group = rows.start * groups + stretch * GROUPS * height;
                let groups = count.div_ceil(WORDS_OF_GROUP);
                // SAFETY: this stretch of this row block belongs to this task alone.
                let to = unsafe {
                    Stretch {
                        words: to_words.part(word..word + count * height),
                        scales: to_scales.part(place..place + height),
                        offsets: to_offsets.part(place..place + height),
                        groups: to_groups.part(group..group + groups * height),
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

/// One row, in plain loops, which the compiler vectorises well enough. Everything is exact or rounded by
/// the same rule as in `quantise_rows`.
#[inline(always)]
fn quantise_row(x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets, groups } = to;
    // Among floats without their signs the larger one has the larger bits, and NaN the largest.
    let largest = x.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7FFF_FFFF));
    let (scale, inverse) = scale_of(f32::from_bits(largest));
    let mut sum = 0;
    for ((group, words), x) in
        groups.iter_mut().zip(words.chunks_mut(WORDS_OF_GROUP)).zip(x.chunks(GROUP))
    {
        let before = sum;
        for (word, x) in words.iter_mut().zip(x.chunks(QUAD)) {
            *word = 0;
            for (i, x) in x.iter().enumerate() {
                // NaN times 0, in a row whose scale is NaN, may leave anything in the low bits.
                let bits = (x * inverse + ROUNDER).to_bits();
                sum += bits.cast_signed() << 24 >> 24;
                *word |= ((bits & 0xFF) << (8 * i)).cast_signed();
            }
        }
        *group = -ZERO_OF_4 * (sum - before);
    }
    (scales[0], offsets[0]) = (scale, -ZERO * sum);
}

/// Several rows: their elements of one input make a vector, some of whose lanes are unused.
#[inline(always)]
fn quantise_rows<L: Lanes, const R: usize, const N: usize>(l: L, x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets, groups } = to;
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
    let words = words.as_chunks_mut::<R>().0.chunks_mut(WORDS_OF_GROUP);
    let groups = groups.as_chunks_mut::<R>().0.iter_mut();
    offsets.fill(0);
    for ((groups, words), rows) in groups.zip(words).zip(rows.chunks(GROUP)) {
        let mut sums = l.splat(0.0);
        for (words, rows) in words.iter_mut().zip(rows.chunks(QUAD)) {
            let mut rounded = [rounder; QUAD];
            for (rounded, row) in rounded.iter_mut().zip(rows) {
                *rounded = l.add(l.mul(l.first(row), inverse), rounder);
                sums = l.add(sums, l.sub(*rounded, rounder));
            }
            l.put_first(l.low_bytes(rounded), words);
        }
        let mut exact = Line::ZERO;
        l.store(sums, &mut exact.0);
        for ((group, offset), sum) in groups.iter_mut().zip(offsets.iter_mut()).zip(exact.0) {
            *group = -ZERO_OF_4 * sum as i32;
            *offset -= ZERO * sum as i32;
        }
    }
}
