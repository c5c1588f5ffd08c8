//! The softmax of scores, without its division.

use super::query_tile::QueryTile;
use crate::cache::POSITIONS;
use crate::ops::activations::exp;
use crate::ops::row_blocks::BLOCK_ROWS;
use fastdecode_simd::{Lanes, Line};
use std::ops::Range;

/// The softmax's terms of the `R` queries of a tile, and their sums. `scores` has a line for each query of each
/// chunk, whose first position is `before`.
#[inline(always)]
pub fn softmax<L: Lanes, const R: usize>(
    l: L,
    tile: QueryTile<'_>,
    before: usize,
    scores: &mut [Line],
) -> [f32; BLOCK_ROWS] {
    let mut totals = [0.0; BLOCK_ROWS];
    for (r, total) in totals.iter_mut().take(R).enumerate() {
        let Range { start, end } = tile.reach(r);
        *total = softmax_terms::<L, R>(l, scores, r, start - before..end - before);
    }
    totals
}

/// Replaces the scores of query `r` by exp(score - largest) for these positions, and by zeros for the others.
/// Returns the sum, in sixteen lanes that are added by one tree. Each chunk has a line for each of the `R`
/// queries.
#[inline(always)]
fn softmax_terms<L: Lanes, const R: usize>(
    l: L,
    scores: &mut [Line],
    r: usize,
    positions: Range<usize>,
) -> f32 {
    let chunks = scores.as_chunks_mut::<R>().0;
    fill_others(chunks, r, &positions, f32::MIN);
    let mut largest = l.splat(f32::MIN);
    for chunk in chunks.iter() {
        largest = l.max(largest, l.load(&chunk[r].0));
    }
    let largest = l.splat(l.largest(largest));
    for chunk in chunks.iter_mut() {
        let line = &mut chunk[r].0;
        l.store(exp(l, l.sub(l.load(line), largest)), line);
    }
    fill_others(chunks, r, &positions, 0.0);
    let mut sum = l.splat(0.0);
    for chunk in chunks.iter() {
        sum = l.add(sum, l.load(&chunk[r].0));
    }
    l.sum(sum)
}

/// Sets the scores of query `r` outside of these positions.
#[inline(always)]
pub fn fill_others<const R: usize>(
    chunks: &mut [[Line; R]],
    r: usize,
    positions: &Range<usize>,
    value: f32,
) {
    let others = (0..positions.start).chain(positions.end..chunks.len() * POSITIONS);
    for position in others {
        chunks[position / POSITIONS][r].0[position % POSITIONS] = value;
    }
}
