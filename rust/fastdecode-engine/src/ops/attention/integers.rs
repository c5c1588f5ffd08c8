//! Attention over an int8 cache: products of integers, which are exact on every instruction set.
//!
//! Queries, times the scale, and the softmax's terms become two integers each (see `rounding`), so that nearly
//! all of the error is that of the cache. A query has one scale. The integers of a score, those of the query with
//! those of the key, are summed exactly; with the sums h and l the score is (h + l / 254) times the product of
//! the two scales. The terms of each sixteen positions, from a multiple of sixteen on, are multiplied by the
//! scales of the values, and then have one scale s: an output is one chain over the chunks, upwards, of
//! s (h + l / 254), divided by the sum of the terms in floats.

use super::attend::{Attend, Workspace};
use super::part::{Share, attend_share};
use super::query_tile::{Extent, QueryTile, room};
use super::rounding::{FINE, word};
use super::softmax::{fill_others, softmax};
use super::terms::{Term, WORDS, round_terms, weigh};
use crate::cache::{POSITIONS, integers::scales};
use crate::ops::integers::{Dots, with_dots};
use crate::ops::row_blocks::BLOCK_ROWS;
use crate::ops::tile::Tile;
use crate::weights::{QUAD, ZERO};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line};

/// A share of attention over an int8 cache.
pub fn attend(level: Level, share: Share<'_>) {
    with_dots!(level, attend_on(share: Share<'_>));
}

#[inline(always)]
fn attend_on<D: Dots<L: Tile>>(d: D, share: Share<'_>) {
    attend_share(OnIntegers(d), share);
}

/// An int8 cache on an instruction set.
#[derive(Clone, Copy)]
struct OnIntegers<D>(D);

impl<D: Dots<L: Tile>> Attend for OnIntegers<D> {
    type L = D::L;
    const ROWS: usize = D::ROWS_OF_GROUPS;

    #[inline(always)]
    fn lanes(self) -> D::L {
        self.0.lanes()
    }

    #[inline(always)]
    fn attend<const R: usize, const N: usize>(
        self,
        tile: QueryTile<'_>,
        workspace: &mut Workspace,
        to: &DisjointSlice<'_, f32>,
    ) {
        let (d, l) = (self.0, self.lanes());
        let Extent { before, begin, chunks, .. } = tile.extent::<R>();
        let width = tile.task.attention.shape.width;
        let mut queries = Queries::<R> { words: &[], offsets: [[0; 2]; R], scales: [0.0; R] };
        queries.fill(l, tile, workspace);
        let Workspace { words, scores, terms, .. } = workspace;
        queries.words = words[..width.div_ceil(QUAD) * R].as_chunks().0;
        let scores = room(scores, chunks * R, Line::ZERO);
        // As many sums as there are registers for.
        let most = D::ROWS_OF_GROUPS * D::ACROSS / R;
        let mut chunk = 0;
        while chunk < chunks {
            let left = chunks - chunk;
            let scores = &mut scores[chunk * R..];
            chunk += if left >= 4 && most >= 4 {
                scores_of::<D, R, 4>(d, tile, begin + chunk, &queries, scores)
            } else if left >= 2 && most >= 2 {
                scores_of::<D, R, 2>(d, tile, begin + chunk, &queries, scores)
            } else {
                scores_of::<D, R, 1>(d, tile, begin + chunk, &queries, scores)
            };
        }
        let totals = softmax::<D::L, R>(l, tile, before, scores);

        let terms = room(terms, chunks * R, Term::default()).as_chunks_mut::<R>().0;
        let scores = scores.as_chunks_mut::<R>().0;
        for (chunk, (terms, scores)) in terms.iter_mut().zip(scores.iter_mut()).enumerate() {
            let scales = scales(tile.head(begin + chunk).values);
            for (r, (term, score)) in terms.iter_mut().zip(scores).enumerate() {
                weigh(l, score, scales);
                let (first, reach) = (before + chunk * POSITIONS, tile.reach(r));
                if reach.start > first || reach.end < first + POSITIONS {
                    // A place that was never written may have any scale, NaN among them.
                    let start = reach.start.saturating_sub(first).min(POSITIONS);
                    let end = reach.end.saturating_sub(first).min(POSITIONS);
                    fill_others(
                        std::array::from_mut(std::array::from_mut(score)),
                        0,
                        &(start..end),
                        0.0,
                    );
                }
                *term = round_terms(l, score);
            }
        }

        let (mut vector, vectors) = (0, width.div_ceil(LANES));
        let most = 8 * D::ACROSS * D::ACROSS / R;
        while vector < vectors {
            let left = vectors - vector;
            vector += if left >= 4 && most >= 8 {
                mix::<D, R, 4>(d, tile, begin, terms, vector, &totals, to)
            } else if left >= N && most >= 4 {
                mix::<D, R, N>(d, tile, begin, terms, vector, &totals, to)
            } else {
                mix::<D, R, 1>(d, tile, begin, terms, vector, &totals, to)
            };
        }
    }
}

/// The queries of a tile as integers.
struct Queries<'a, const R: usize> {
    /// The first and second integers of four dimensions in each word.
    words: &'a [[[i32; 2]; R]],
    /// -128 times their sums.
    offsets: [[i32; 2]; R],
    scales: [f32; R],
}

impl<const R: usize> Queries<'_, R> {
    /// Takes the queries, whose words go to the workspace.
    #[inline(always)]
    fn fill<L: Lanes>(&mut self, l: L, tile: QueryTile<'_>, workspace: &mut Workspace) {
        let (width, scale) = (tile.task.attention.shape.width, tile.task.attention.heads.scale);
        let quads = width.div_ceil(QUAD);
        let Workspace { words, prepared, queries, rounded, .. } = workspace;
        let words = room(words, quads * R, [0; 2]).as_chunks_mut::<R>().0;
        let (prepared, scaled) = (room(&mut prepared.head, width, 0.0), room(queries, width, 0.0));
        for r in 0..R {
            let query = tile.prepared(l, r, prepared);
            for (to, q) in scaled.iter_mut().zip(query) {
                *to = q * scale;
            }
            self.scales[r] = rounded.fill(l, scaled);
            let (high, low) = (rounded.high(quads * QUAD), rounded.low(quads * QUAD));
            for (i, bytes) in [high, low].into_iter().enumerate() {
                let mut sum = 0;
                for (words, bytes) in words.iter_mut().zip(bytes.as_chunks::<QUAD>().0) {
                    words[r][i] = word(*bytes);
                    for byte in bytes {
                        sum += i32::from(*byte);
                    }
                }
                self.offsets[r][i] = -ZERO * sum;
            }
        }
    }
}

/// The scores of a tile in `C` chunks from `chunk` on, together.
#[inline(always)]
fn scores_of<D: Dots, const R: usize, const C: usize>(
    d: D,
    tile: QueryTile<'_>,
    chunk: usize,
    queries: &Queries<'_, R>,
    scores: &mut [Line],
) -> usize {
    let l = d.lanes();
    let heads: [_; C] = std::array::from_fn(|i| tile.head(chunk + i));
    let mut sums = [[[d.start(0); 2]; C]; R];
    for (sums, offsets) in sums.iter_mut().zip(&queries.offsets) {
        *sums = [[d.start(offsets[0]), d.start(offsets[1])]; C];
    }
    for (quad, words) in queries.words.iter().enumerate() {
        let mut keys = [d.weights(&heads[0].keys[quad]); C];
        for c in 0..C {
            keys[c] = d.weights(&heads[c].keys[quad]);
            if let Some(line) = heads[c].values.get(quad) {
                l.prefetch_l2(line);
            }
        }
        for r in 0..R {
            for i in 0..2 {
                for c in 0..C {
                    sums[r][c][i] = d.dot(sums[r][c][i], keys[c], words[r][i]);
                }
            }
        }
    }
    for (c, scores) in scores.as_chunks_mut::<R>().0.iter_mut().take(C).enumerate() {
        let keys = l.load(&scales(heads[c].keys).0);
        for r in 0..R {
            let sum = joined(d, sums[r][c]);
            let scale = l.mul(l.splat(queries.scales[r]), keys);
            l.store(l.mul(sum, scale), &mut scores[r].0);
        }
    }
    C
}

/// The sums of the first and the second integers as one.
#[inline(always)]
fn joined<D: Dots>(d: D, [high, low]: [D::I; 2]) -> <D::L as Lanes>::V {
    let l = d.lanes();
    l.fma(d.floats(low), l.splat(FINE), d.floats(high))
}

/// `N` vectors, from `vector` on, of the means of the values weighted by `terms`, those of the positions from
/// the strip's chunk `begin` on.
#[inline(always)]
fn mix<D: Dots, const R: usize, const N: usize>(
    d: D,
    tile: QueryTile<'_>,
    begin: usize,
    terms: &[[Term; R]],
    vector: usize,
    totals: &[f32; BLOCK_ROWS],
    to: &DisjointSlice<'_, f32>,
) -> usize {
    let l = d.lanes();
    let vectors = tile.task.attention.shape.width.div_ceil(LANES);
    let mut acc = [[l.splat(0.0); N]; R];
    for (chunk, terms) in terms.iter().enumerate() {
        let chunk = begin + chunk;
        let values = tile.head(chunk).values;
        let next = if vector == 0 { tile.next_keys(chunk) } else { &[] };
        for line in next {
            l.prefetch_l2(line);
        }
        for n in 0..N {
            let mut sums = [[d.start(0); 2]; R];
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum = [d.start(term.offsets[0]), d.start(term.offsets[1])];
            }
            for quad in 0..WORDS {
                let values = d.weights(&values[quad * vectors + vector + n]);
                for (sum, term) in sums.iter_mut().zip(terms) {
                    let [high, low] = term.words;
                    *sum = [d.dot(sum[0], values, high[quad]), d.dot(sum[1], values, low[quad])];
                }
            }
            for r in 0..R {
                acc[r][n] = l.fma(joined(d, sums[r]), l.splat(terms[r].scale), acc[r][n]);
            }
        }
    }
    for r in 0..R {
        tile.write(l, (r, vector), acc[r], totals[r], to);
    }
    N
}
