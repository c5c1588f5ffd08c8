//! Attention over a float32 cache, with the chains of the linear kernel.

use super::attend::{Attend, Workspace};
use super::part::{Share, attend_share};
use super::query_tile::{Extent, QueryTile, room};
use super::softmax::softmax;
use crate::cache::{Head, POSITIONS, values};
use crate::ops::row_blocks::BLOCK_ROWS;
use crate::ops::tile::{Beside, Floats, InLines, Prefetch, Tile, chains};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Line, kernel};

kernel! {
    /// A share of attention over a float32 cache.
    pub fn attend(share: Share<'_>) = attend_body;
}

#[inline(always)]
fn attend_body<L: Tile>(l: L, share: Share<'_>) {
    attend_share(OnFloats(l), share);
}

/// A float32 cache on an instruction set.
#[derive(Clone, Copy)]
struct OnFloats<L>(L);

impl<L: Tile> Attend for OnFloats<L> {
    type L = L;
    const ROWS: usize = L::ROWS;

    #[inline(always)]
    fn lanes(self) -> L {
        self.0
    }

    #[inline(always)]
    fn attend<const R: usize, const N: usize>(
        self,
        tile: QueryTile<'_>,
        workspace: &mut Workspace,
        to: &DisjointSlice<'_, f32>,
    ) {
        attend_rows::<L, R, N>(self.0, tile, workspace, to);
    }
}

#[inline(always)]
fn attend_rows<L: Tile, const R: usize, const N: usize>(
    l: L,
    tile: QueryTile<'_>,
    workspace: &mut Workspace,
    to: &DisjointSlice<'_, f32>,
) {
    let width = tile.task.attention.shape.width;
    let Extent { before, begin, count, chunks } = tile.extent::<R>();
    let Workspace { queries, prepared, scores, .. } = workspace;
    let queries = tile.queries::<L, R>(l, queries, &mut prepared.head);
    // A line for each query of a chunk, one after the other.
    let scores = room(scores, chunks * R, Line::ZERO);

    // As many chains as there are registers for.
    let most = L::ROWS * L::ACROSS / R;
    if R <= FEW || most > 1 {
        let mut chunk = 0;
        while chunk < chunks {
            let left = chunks - chunk;
            let scores = &mut scores[chunk * R..];
            chunk += if left >= 4 && most >= 4 {
                scores_of::<L, R, 4>(l, tile, begin + chunk, queries, scores)
            } else if left >= 3 && most >= 3 {
                scores_of::<L, R, 3>(l, tile, begin + chunk, queries, scores)
            } else if left >= 2 && most >= 2 {
                scores_of::<L, R, 2>(l, tile, begin + chunk, queries, scores)
            } else {
                scores_of::<L, R, 1>(l, tile, begin + chunk, queries, scores)
            };
        }
    } else {
        let queries = Beside::rows::<R>(queries, R);
        for (chunk, scores) in scores.as_chunks_mut::<R>().0.iter_mut().enumerate() {
            let mut acc = [[l.splat(0.0)]; R];
            let Head { keys, values } = tile.head(begin + chunk);
            let prefetch = Prefetch::of(values, 1);
            chains::<L, Floats<0>, R, 1, 1>(l, keys, 1, queries, prefetch, &mut acc);
            for (to, [acc]) in scores.iter_mut().zip(acc) {
                l.store(acc, &mut to.0);
            }
        }
    }
    let totals = softmax::<L, R>(l, tile, before, scores);

    let terms = Terms { lines: scores.as_chunks().0, count };
    let (mut vector, whole) = (0, width / LANES);
    while vector < width.div_ceil(LANES) {
        // Enough chains to hide an addition's latency, as far as there are registers.
        let four = R <= FEW && L::LONE == 4 && 4 * R <= L::ROWS * L::ACROSS;
        let taken = if four && vector + 4 <= whole {
            mix::<L, R, 4>(l, tile, begin, terms, vector, &totals, to)
        } else if (L::ACROSS == 2 || R <= L::ROWS_OF_TWO) && vector + N <= whole {
            mix::<L, R, N>(l, tile, begin, terms, vector, &totals, to)
        } else {
            mix::<L, R, 1>(l, tile, begin, terms, vector, &totals, to)
        };
        vector += taken;
    }
}

/// Up to this many queries take several vectors at once, because few chains would wait for their own
/// additions.
pub const FEW: usize = 4;

/// The scores of a tile in `C` chunks from `chunk` on, together.
#[inline(always)]
fn scores_of<L: Lanes, const R: usize, const C: usize>(
    l: L,
    tile: QueryTile<'_>,
    chunk: usize,
    queries: &[f32],
    scores: &mut [Line],
) -> usize {
    let heads: [_; C] = std::array::from_fn(|i| tile.head(chunk + i));
    let mut acc = [[l.splat(0.0); C]; R];
    for (d, q) in queries.as_chunks::<R>().0.iter().enumerate() {
        let mut keys = [l.splat(0.0); C];
        for (key, head) in keys.iter_mut().zip(heads) {
            *key = l.load(&head.keys[d].0);
            if let Some(line) = head.values.get(d) {
                l.prefetch_l2(line);
            }
        }
        for r in 0..R {
            let q = l.splat(q[r]);
            for c in 0..C {
                acc[r][c] = l.fma(q, keys[c], acc[r][c]);
            }
        }
    }
    for (c, scores) in scores.as_chunks_mut::<R>().0.iter_mut().take(C).enumerate() {
        for (to, acc) in scores.iter_mut().zip(acc) {
            l.store(acc[c], &mut to.0);
        }
    }
    C
}

/// The terms of a tile: a line for each query of a chunk of positions.
#[derive(Clone, Copy)]
pub struct Terms<'a, const R: usize> {
    pub lines: &'a [[Line; R]],
    /// Positions: the last chunk may have fewer than a line.
    pub count: usize,
}

/// `N` vectors, from `vector` on, of the means of the values weighted by `terms`, those of the positions from
/// the strip's chunk `begin` on.
#[inline(always)]
fn mix<L: Lanes, const R: usize, const N: usize>(
    l: L,
    tile: QueryTile<'_>,
    begin: usize,
    terms: Terms<'_, R>,
    vector: usize,
    totals: &[f32; BLOCK_ROWS],
    to: &DisjointSlice<'_, f32>,
) -> usize {
    let whole = tile.task.attention.shape.width / LANES;
    let mut acc = [[l.splat(0.0); N]; R];
    for (chunk, lines) in terms.lines.iter().enumerate() {
        let terms = InLines::new(lines, terms.count - chunk * POSITIONS);
        let chunk = begin + chunk;
        let values = tile.head(chunk).values;
        let rests;
        let (values, step) = if N == 1 && vector == whole {
            rests = values::rests(values);
            (&rests[..], 1)
        } else {
            (&values[vector..], whole)
        };
        let next = if vector == 0 { tile.next_keys(chunk) } else { &[] };
        let prefetch = Prefetch::of(next, 4);
        chains::<L, Floats<0>, R, N, 4>(l, values, step, terms, prefetch, &mut acc);
    }
    for r in 0..R {
        tile.write(l, (r, vector), acc[r], totals[r], to);
    }
    N
}
