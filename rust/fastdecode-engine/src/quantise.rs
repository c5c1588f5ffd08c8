//! Activations as integers, for int8 weights.
//!
//! Each row has one scale for each 128 inputs, the largest of them divided by 127: an outlier, of
//! which GPT-2 has some at fixed places, costs accuracy only beside it. Four inputs are a word, and
//! words lie as the floats do in [`crate::blocks`].

use crate::blocks::{BLOCK_ROWS, Blocks};
use crate::dtype::{CHAIN, QUAD, ZERO, scale_of};
use crate::lanes::{Lanes, ROUNDER, kernel};
use crate::parts::Parts;
use crate::pool::Session;
use crate::tile::with_rows;
use fastdecode_core::Level;

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
            Parts::new(&mut self.words),
            Parts::new(&mut self.scales),
            Parts::new(&mut self.offsets),
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
    with_rows!(height, BLOCK_ROWS, quantise_rows::<L; R, 1>(l, x, to));
}

/// Plain loops, which the compiler turns into vectors well enough. All is exact, or rounded by the
/// one rule.
#[inline(always)]
fn quantise_rows<L: Lanes, const R: usize, const N: usize>(_: L, x: &[f32], to: Stretch<'_>) {
    let Stretch { words, scales, offsets } = to;
    let rows = x.as_chunks::<R>().0;
    // Of floats without their sign, the larger one has the larger bits, and NaN the largest.
    let size = |x: f32| x.to_bits() & 0x7FFF_FFFF;
    let mut largest = [0u32; R];
    if R == 1 {
        largest = [x.iter().fold(0, |largest, &x| largest.max(size(x))); R];
    } else {
        for row in rows {
            for r in 0..R {
                largest[r] = largest[r].max(size(row[r]));
            }
        }
    }
    let mut inverse = [0.0; R];
    for ((scale, inverse), largest) in scales.iter_mut().zip(&mut inverse).zip(largest) {
        (*scale, *inverse) = scale_of(f32::from_bits(largest));
    }
    let mut sums = [0i32; R];
    for (words, rows) in words.as_chunks_mut::<R>().0.iter_mut().zip(rows.chunks(QUAD)) {
        *words = [0; R];
        for (i, row) in rows.iter().enumerate() {
            for r in 0..R {
                // NaN times 0, in a row whose scale is NaN, may leave anything in the low bits.
                let bits = (row[r] * inverse[r] + ROUNDER).to_bits();
                sums[r] += bits.cast_signed() << 24 >> 24;
                words[r] |= ((bits & 0xFF) << (8 * i)).cast_signed();
            }
        }
    }
    for (offset, sum) in offsets.iter_mut().zip(sums) {
        *offset = -ZERO * sum;
    }
}
