//! Attention over a bfloat16 cache: the sums of a float32 cache, in the same order, with keys and values that
//! are widened as they are read.

use super::attend::{Attend, Workspace};
use super::floats::{FEW, Terms};
use super::part::{Share, attend_share};
use super::query_tile::{Extent, QueryTile, room};
use super::softmax::softmax;
use crate::cache::POSITIONS;
use crate::ops::row_blocks::BLOCK_ROWS;
use crate::ops::tile::{Prefetch, Tile};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Line, kernel};

kernel! {
    /// A share of attention over a bfloat16 cache.
    pub fn attend(share: Share<'_>) = attend_body;
}

#[inline(always)]
fn attend_body<L: Tile>(l: L, share: Share<'_>) {
    attend_share(OnHalves(l), share);
}

/// A bfloat16 cache on an instruction set.
#[derive(Clone, Copy)]
struct OnHalves<L>(L);

impl<L: Tile> Attend for OnHalves<L> {
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
        let l = self.0;
        let Extent { before, begin, count, chunks } = tile.extent::<R>();
        let Workspace { queries, prepared, scores, .. } = workspace;
        let queries = tile.queries::<L, R>(l, queries, &mut prepared.head);
        let scores = room(scores, chunks * R, Line::ZERO);
        let most = L::ROWS * L::ACROSS / R;
        let mut chunk = 0;
        while chunk < chunks {
            let left = chunks - chunk;
            let scores = &mut scores[chunk * R..];
            chunk += if left >= 4 && most >= 4 {
                scores_of::<L, R, 4>(l, tile, begin + chunk, queries, scores)
            } else if left >= 2 && most >= 2 {
                scores_of::<L, R, 2>(l, tile, begin + chunk, queries, scores)
            } else {
                scores_of::<L, R, 1>(l, tile, begin + chunk, queries, scores)
            };
        }
        let totals = softmax::<L, R>(l, tile, before, scores);

        let terms = Terms { lines: scores.as_chunks().0, count };
        let (mut vector, vectors) = (0, tile.task.attention.shape.width.div_ceil(LANES));
        while vector < vectors {
            let left = vectors - vector;
            let four = R <= FEW && L::LONE == 4 && 4 * R <= L::ROWS * L::ACROSS;
            vector += if four && left >= 4 {
                mix::<L, R, 4>(l, tile, begin, terms, vector, &totals, to)
            } else if (L::ACROSS == 2 || R <= L::ROWS_OF_TWO) && left >= N {
                mix::<L, R, N>(l, tile, begin, terms, vector, &totals, to)
            } else {
                mix::<L, R, 1>(l, tile, begin, terms, vector, &totals, to)
            };
        }
    }
}

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
    for (pair, q) in queries.chunks(2 * R).enumerate() {
        let (first, second) = q.split_at(R);
        let mut low = [l.splat(0.0); C];
        let mut high = [l.splat(0.0); C];
        for c in 0..C {
            let line = &heads[c].keys[pair];
            (low[c], high[c]) = (l.low_halves(line), l.high_halves(line));
            if let Some(line) = heads[c].values.get(pair) {
                l.prefetch_l2(line);
            }
        }
        for r in 0..R {
            let q = l.splat(first[r]);
            for c in 0..C {
                acc[r][c] = l.fma(q, low[c], acc[r][c]);
            }
        }
        // The last line of an odd width has one dimension only.
        if second.len() == R {
            for r in 0..R {
                let q = l.splat(second[r]);
                for c in 0..C {
                    acc[r][c] = l.fma(q, high[c], acc[r][c]);
                }
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
    let vectors = tile.task.attention.shape.width.div_ceil(LANES);
    let mut acc = [[l.splat(0.0); N]; R];
    for (chunk, lines) in terms.lines.iter().enumerate() {
        let count = (terms.count - chunk * POSITIONS).min(POSITIONS);
        let chunk = begin + chunk;
        let values = tile.head(chunk).values;
        let prefetch = Prefetch::of(if vector == 0 { tile.next_keys(chunk) } else { &[] }, 4);
        let step = if prefetch.hints_only(R) { 2 } else { 1 };
        for pair in 0..count.div_ceil(2) {
            prefetch.issue::<L, 4>(l, pair, step);
            let from = &values[pair * vectors + vector..][..N];
            let mut low = [l.splat(0.0); N];
            let mut high = [l.splat(0.0); N];
            for n in 0..N {
                (low[n], high[n]) = (l.low_halves(&from[n]), l.high_halves(&from[n]));
            }
            for r in 0..R {
                let term = l.splat(lines[r].0[2 * pair]);
                for n in 0..N {
                    acc[r][n] = l.fma(term, low[n], acc[r][n]);
                }
            }
            // The second position may not have been written.
            if 2 * pair + 1 < count {
                for r in 0..R {
                    let term = l.splat(lines[r].0[2 * pair + 1]);
                    for n in 0..N {
                        acc[r][n] = l.fma(term, high[n], acc[r][n]);
                    }
                }
            }
        }
    }
    for r in 0..R {
        tile.write(l, (r, vector), acc[r], totals[r], to);
    }
    N
}
