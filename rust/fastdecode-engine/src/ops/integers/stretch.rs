//! The loop over the stretches of a panel, which the kernels for all formats of integers share.

use super::Dots;
use crate::ops::panel::{Panel, Sums, prefetch_of};
use crate::ops::quantise::{Quantised, WORDS};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::{Prefetch, with_rows};
use crate::weights::ACROSS;
use fastdecode_simd::Line;
use std::ops::Range;

/// How the weights of a stretch, 128 inputs, are multiplied in one format.
pub trait Products {
    /// Lines of a stretch.
    const LINES: usize;
    /// The parts of a stretch that have an offset each.
    const SPANS: usize;

    /// Rows in a register tile.
    fn rows<D: Dots>() -> usize;

    /// Adds the products of `R` rows and `N` vectors of outputs, from row `done` and from `vector` on.
    fn add<D: Dots, const R: usize, const N: usize>(
        d: D,
        stretch: Stretch<'_>,
        done: usize,
        sums: &mut [[Line; ACROSS]],
        vector: usize,
    );
}

/// One stretch of a panel and of a row block.
#[derive(Clone, Copy)]
pub struct Stretch<'a> {
    pub weights: &'a [Line],
    /// From the stretch on, as the offsets.
    pub words: &'a [i32],
    pub scales: &'a [f32],
    pub offsets: &'a [i32],
    pub height: usize,
    pub prefetch: Prefetch,
    /// Whether it is the panel's first one, before which there are no sums.
    pub first: bool,
}

#[inline(always)]
pub fn body<D: Dots, P: Products>(
    d: D,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &Quantised,
    sums: &mut [Sums],
) {
    let stretches = panel.weights.len().div_ceil(P::LINES);
    for (index, weights) in panel.weights.chunks(P::LINES).enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let place = rows.start * stretches + index * height;
            let stretch = Stretch {
                weights,
                words: &x.words_of(rows.clone())[index * WORDS * height..],
                scales: &x.scales[place..place + height],
                offsets: &x.offsets_of(rows)[index * P::SPANS * height..],
                height,
                prefetch: prefetch_of(weights, i, group.len()),
                first: index == 0,
            };
            products::<D, P>(d, stretch, &mut sums[..height]);
        }
    }
}

#[inline(always)]
fn products<D: Dots, P: Products>(d: D, mut stretch: Stretch<'_>, sums: &mut [[Line; ACROSS]]) {
    let mut done = 0;
    while done < stretch.height {
        let rows = (stretch.height - done).min(P::rows::<D>());
        let sums = &mut sums[done..done + rows];
        if D::ACROSS == ACROSS {
            with_rows!(rows, P::rows::<D>(), add::<D, P; R, 2>(d, stretch, done, sums, 0));
        } else {
            with_rows!(rows, P::rows::<D>(), add::<D, P; R, 1>(d, stretch, done, sums, 0));
            stretch.prefetch = Prefetch::NONE;
            with_rows!(rows, P::rows::<D>(), add::<D, P; R, 1>(d, stretch, done, sums, 1));
        }
        stretch.prefetch = Prefetch::NONE;
        done += rows;
    }
}

#[inline(always)]
fn add<D: Dots, P: Products, const R: usize, const N: usize>(
    d: D,
    stretch: Stretch<'_>,
    done: usize,
    sums: &mut [[Line; ACROSS]],
    vector: usize,
) {
    P::add::<D, R, N>(d, stretch, done, sums, vector);
}
