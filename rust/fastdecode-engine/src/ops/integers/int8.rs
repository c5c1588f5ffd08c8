//! The linear kernel for int8 weights.
//!
//! The products of 128 inputs are summed as integers, in 32 bits and exactly, so their order cannot matter.
//! Each sum becomes a float, exactly (it is below 2^21), is multiplied by the scale of its row and inputs
//! and added to the sum before it by one fused multiply-add; at the end another one applies the scale of the
//! output and the bias.

use super::Dots;
use crate::ops::panel::{PREFETCHED, Panel, Sums, prefetch_of};
use crate::ops::quantise::{Quantised, WORDS};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::{Prefetch, with_rows};
use crate::weights::ACROSS;
use fastdecode_simd::{Lanes, Line};
use std::ops::Range;

#[inline(always)]
pub fn body<D: Dots>(
    d: D,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &Quantised,
    sums: &mut [Sums],
) {
    let words = panel.weights.len() / ACROSS;
    let stretches = words.div_ceil(WORDS);
    for (index, weights) in panel.weights.chunks(WORDS * ACROSS).enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let place = rows.start * stretches + index * height;
            let word = rows.start * words + index * WORDS * height;
            let stretch = Stretch {
                weights,
                words: &x.words[word..rows.end * words],
                scales: &x.scales[place..place + height],
                offsets: &x.offsets[place..place + height],
                height,
                prefetch: prefetch_of(weights, i, group.len()),
                first: index == 0,
            };
            products(d, stretch, &mut sums[..height]);
        }
    }
}

/// One stretch of a panel and of a row block.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    weights: &'a [Line],
    words: &'a [i32],
    scales: &'a [f32],
    offsets: &'a [i32],
    height: usize,
    prefetch: Prefetch,
    /// Whether it is the panel's first one, before which there are no sums.
    first: bool,
}

#[inline(always)]
fn products<D: Dots>(d: D, stretch: Stretch<'_>, sums: &mut [[Line; ACROSS]]) {
    let mut done = 0;
    while done < stretch.height {
        let rows = (stretch.height - done).min(D::ROWS);
        let sums = &mut sums[done..done + rows];
        if D::ACROSS == ACROSS {
            with_rows!(rows, D::ROWS, add_dots::<D; R, 2>(d, stretch, done, sums, 0));
        } else {
            with_rows!(rows, D::ROWS, add_dots::<D; R, 1>(d, stretch, done, sums, 0));
            with_rows!(rows, D::ROWS, add_dots::<D; R, 1>(d, stretch, done, sums, 1));
        }
        done += rows;
    }
}

#[inline(always)]
fn add_dots<D: Dots, const R: usize, const N: usize>(
    d: D,
    stretch: Stretch<'_>,
    done: usize,
    sums: &mut [[Line; ACROSS]],
    vector: usize,
) {
    let l = d.lanes();
    // No closures: they would not be compiled for the instruction set.
    let mut acc = [[d.start(0); N]; R];
    for (acc, offset) in acc.iter_mut().zip(&stretch.offsets[done..]) {
        *acc = [d.start(*offset); N];
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
