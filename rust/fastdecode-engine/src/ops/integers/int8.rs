//! The linear kernel for int8 weights.
//!
//! The products of 128 inputs are summed as integers, in 32 bits and exactly, so their order cannot matter.
//! Each sum becomes a float, exactly (it is below 2^21), is multiplied by the scale of its row and inputs
//! and added to the sum before it by one fused multiply-add; at the end another one applies the scale of the
//! output and the bias.

use super::Dots;
use super::stretch::{Products, Stretch};
use crate::ops::panel::PREFETCHED;
use crate::ops::quantise::WORDS;
use crate::weights::{ACROSS, ZERO, ZERO_OF_4};
use fastdecode_simd::{Lanes, Line};

/// int8 weights.
pub struct Int8;

impl Products for Int8 {
    const LINES: usize = WORDS * ACROSS;
    const SPANS: usize = 1;

    #[inline(always)]
    fn rows<D: Dots>() -> usize {
        D::ROWS
    }

    #[inline(always)]
    fn add<D: Dots, const R: usize, const N: usize>(
        d: D,
        stretch: Stretch<'_>,
        done: usize,
        sums: &mut [[Line; ACROSS]],
        vector: usize,
    ) {
        let l = d.lanes();
        // No closures: they would not be compiled for the instruction set.
        let of_rows = stretch.offsets[done..].first_chunk().copied().unwrap_or([0; R]);
        let mut acc = [[d.zeros(); N]; R];
        for r in 0..R {
            acc[r] = [d.start(ZERO / ZERO_OF_4 * of_rows[r]); N];
        }
        let weights = stretch.weights.as_chunks::<ACROSS>().0;
        let words = &stretch.words[done..];
        assert!(weights.is_empty() || (weights.len() - 1) * stretch.height + R <= words.len());
        for (i, w) in weights.iter().enumerate() {
            // SAFETY: i is less than the number of weights, for which the assertion above holds.
            let words = unsafe { &*words.as_ptr().add(i * stretch.height).cast::<[i32; R]>() };
            if !stretch.prefetch.hints_only(R) {
                stretch.prefetch.issue::<D::L, PREFETCHED>(l, i, 1);
            }
            for n in 0..N {
                let w = d.weights(&w[vector + n]);
                for r in 0..R {
                    acc[r][n] = d.dot(acc[r][n], w, words[r]);
                }
            }
        }
        for (r, (sum, acc)) in sums.iter_mut().zip(acc).enumerate() {
            let scale = l.splat(stretch.scales[done + r]);
            for (line, acc) in sum[vector..].iter_mut().zip(acc) {
                let before = if stretch.first { l.splat(0.0) } else { l.load(&line.0) };
                let y = l.fma(d.floats(acc), scale, before);
                l.store(y, &mut line.0);
            }
        }
    }
}
