//! Activations as integers, for weights that are integers.
//!
//! Each row has one scale for each 128 inputs, the largest absolute value divided by 127, so that an
//! outlier costs accuracy only among its neighbours. Four inputs are a word, and words lie as the floats
//! do in `row_blocks`.

use super::row_blocks::{BLOCK_ROWS, RowBlocks};
use super::tile::with_rows;
use crate::error::Result;
use crate::weights::{CHAIN, Format, GROUP, QUAD, ZERO_OF_4, scale_of};
use fastdecode_simd::{DisjointSlice, Lanes, Level, Line, ROUNDER, Session, kernel, memory};
use std::ops::Range;

/// Words of a stretch: inputs that share a scale.
pub const WORDS: usize = CHAIN / QUAD;
/// Words of a group of weights that share a scale.
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
    /// `-ZERO_OF_4` times the sum of the integers of each span, `span * height + row` of a row block: weights
    /// are stored as unsigned integers, with 8 or 128 for zero. A span is a group where the weights have
    /// groups, and a stretch otherwise.
    pub offsets: Vec<i32>,
    /// Spans of a row.
    spans: usize,
    /// Words of a row.
    width: usize,
}

/// The places of one stretch of one row block.
struct Stretch<'a> {
    words: &'a mut [i32],
    scales: &'a mut [f32],
    offsets: &'a mut [i32],
    /// Whether offsets are those of groups.
    groups: bool,
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
        memory::room(&mut self.offsets, rows * inputs.div_ceil(GROUP))?;
        Ok(())
    }

    /// The words of rows that make a row block.
    #[inline(always)]
    pub fn words_of(&self, rows: Range<usize>) -> &[i32] {
        &self.words[rows.start * self.width..rows.end * self.width]
    }

    /// The offsets of rows that make a row block.
    #[inline(always)]
    pub fn offsets_of(&self, rows: Range<usize>) -> &[i32] {
        &self.offsets[rows.start * self.spans..rows.end * self.spans]
    }

    /// Quantises the row blocks `x`, `inputs` wide, for weights in `format`.
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
        format: Format,
    ) {
        assert_eq!(x.len(), blocks.rows() * inputs);
        let (words, stretches) = (inputs.div_ceil(QUAD), inputs.div_ceil(CHAIN));
        let groups = format.has_groups();
        let (spans, of_stretch) =
            if groups { (inputs.div_ceil(GROUP), GROUPS) } else { (stretches, 1) };
        (self.width, self.spans) = (words, spans);
        self.words.resize(blocks.rows() * words, 0);
        self.scales.resize(blocks.rows() * stretches, 0.0);
        self.offsets.resize(blocks.rows() * spans, 0);
        let (to_words, to_scales, to_offsets) = (
            DisjointSlice::new(&mut self.words),
            DisjointSlice::new(&mut self.scales),
            DisjointSlice::new(&mut self.offsets),
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
                let span = rows.start * spans + stretch * of_stretch * height;
                let here = of_stretch.min(count.div_ceil(WORDS_OF_GROUP));
                // SAFETY: this stretch of this row block belongs to this task alone.
                let to = unsafe {
                    Stretch {
                        words: to_words.part(word..word + count * height),
                        scales: to_scales.part(place..place + height),
                        offsets: to_offsets.part(span..span + here * height),
                        groups,
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
    if to.groups {
        quantise_spans::<L, WORDS_OF_GROUP>(l, x, height, to);
    } else {
        quantise_spans::<L, WORDS>(l, x, height, to);
    }
}

/// With offsets of spans of `W` words.
#[inline(always)]
fn quantise_spans<L: Lanes, const W: usize>(l: L, x: &[f32], height: usize, to: Stretch<'_>) {
    if height == 1 {
        quantise_row::<W>(x, to);
    } else {
        with_rows!(height, BLOCK_ROWS, quantise_rows::<L; R, W>(l, x, to));
    }
}

/// One row, in plain loops, which the compiler vectorises well enough. Everything is exact or rounded by
/// the same rule as in `quantise_rows`.
#[inline(always)]
fn quantise_row<const W: usize>(x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets, .. } = to;
    // Among floats without their signs the larger one has the larger bits, and NaN the largest.
    let largest = x.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7FFF_FFFF));
    let (scale, inverse) = scale_of(f32::from_bits(largest));
    scales[0] = scale;
    for ((offset, words), x) in offsets.iter_mut().zip(words.chunks_mut(W)).zip(x.chunks(W * QUAD))
    {
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
        *offset = -ZERO_OF_4 * sum;
    }
}

/// Several rows: their elements of one input make a vector, some of whose lanes are unused.
#[inline(always)]
fn quantise_rows<L: Lanes, const R: usize, const W: usize>(l: L, x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets, .. } = to;
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
    let words = words.as_chunks_mut::<R>().0.chunks_mut(W);
    let offsets = offsets.as_chunks_mut::<R>().0.iter_mut();
    for ((offsets, words), rows) in offsets.zip(words).zip(rows.chunks(W * QUAD)) {
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
        for (offset, sum) in offsets.iter_mut().zip(exact.0) {
            *offset = -ZERO_OF_4 * sum as i32;
        }
    }
}
