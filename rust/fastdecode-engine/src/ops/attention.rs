//! Attention over the KV cache, with the chains of the linear kernel.
//!
//! The score of a position is one chain over the head's dimensions, of the query times
//! `1 / sqrt(width)` with the key. An output is one chain over the positions, upwards, of the softmax's
//! terms with the values, divided by the sum of the terms, which runs in sixteen lanes, position i in lane
//! i mod 16.
//!
//! Where several rows of a prompt are computed together, the terms of the positions after a row's own are
//! zeros. Adding those changes no bit except the sign of a zero, which the sums of the next layer do not
//! see. So a prompt gives the same bits whole or token by token.

use super::activations::exp;
use super::pass_rows::{PassRows, Segment};
use super::row_blocks::{BLOCK_ROWS, RowBlocks};
use super::run::Run;
use super::tile::{Floats, Prefetch, Tile, chains, with_rows};
use crate::cache::{Head, POSITIONS, Reserved, Sequence, Shape};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Line, Session, kernel};
use std::ops::Range;

/// Causal attention of one layer.
pub(crate) struct Attention<'a> {
    sequences: &'a [Sequence],
    rows: &'a PassRows,
    /// Queries, keys and values, `3 * heads * width` floats a row.
    qkv: &'a [f32],
    layer: usize,
    shape: Shape,
}

impl<'a> Attention<'a> {
    /// Over these sequences and rows. `qkv` has the queries, keys and values of each row, in this order,
    /// `heads * width` floats each.
    ///
    /// # Panics
    /// If a row stands at a position that its sequence has not reserved, or `qkv` has another size.
    pub fn new(
        sequences: &'a mut Reserved<'_>,
        rows: &'a PassRows,
        qkv: &'a [f32],
        layer: usize,
        shape: Shape,
    ) -> Self {
        for segment in rows.segments() {
            let room = sequences.room(segment.sequence);
            assert!(room.start <= segment.start && segment.start + segment.count <= room.end);
        }
        assert_eq!(qkv.len(), rows.len() * 3 * shape.heads * shape.width);
        assert!(layer < shape.layers && sequences.iter().all(|one| one.shape() == shape));
        Self { sequences, rows, qkv, layer, shape }
    }

    /// Appends the new keys and values to the cache, and attends from each row to the positions up to its
    /// own. Writes row blocks, `heads * width` wide.
    ///
    /// # Panics
    /// If `to` or `blocks` has another size.
    pub fn apply(self, run: &mut Run<'_>, blocks: RowBlocks, to: &mut [f32]) {
        let (heads, width) = (self.shape.heads, self.shape.heads * self.shape.width);
        assert_eq!(blocks.rows(), self.rows.len());
        assert_eq!(to.len(), blocks.rows() * width);
        self.append_wide(&mut run.session, blocks);
        let to = DisjointSlice::new(to);
        // Later row blocks of a prompt have more to do, so they are taken first: claims go upwards.
        let tasks = blocks.count() * heads;
        let level = run.level;
        run.session.run(tasks, |task| {
            let task = tasks - 1 - task;
            let (block, head) = (task / heads, task % heads);
            let rows = blocks.range(block);
            let start = rows.start * width + head * self.shape.width * rows.len();
            // SAFETY: this head of this row block belongs to this task alone.
            let to = unsafe { to.part(start..start + self.shape.width * rows.len()) };
            attend_block(level, &self, blocks, block, head, to);
        });
    }

    /// Appends the keys and values that several row blocks need; `attend_block` appends the others, while
    /// they are in its cache.
    fn append_wide(&self, session: &mut Session<'_>, blocks: RowBlocks) {
        let wide: Vec<&Segment> = self
            .rows
            .segments()
            .iter()
            .filter(|segment| !within_a_block(segment, blocks))
            .collect();
        session.run(wide.len() * self.shape.heads, |task| {
            self.append_head(wide[task / self.shape.heads], task % self.shape.heads);
        });
    }

    fn append_head(&self, segment: &Segment, head: usize) {
        let (width, across) = (self.shape.width, self.shape.across);
        let residual = self.shape.heads * width;
        let sequence = &self.sequences[segment.sequence];
        for i in 0..segment.count {
            let position = segment.start + i;
            let row = &self.qkv[(segment.first + i) * 3 * residual..][..3 * residual];
            // SAFETY: the position is reserved, as `new` has checked, and `Reserved` is borrowed mutably.
            // Each segment has a sequence of its own, whose head is appended to either by the task of the
            // only row block that reads it, or in a phase before.
            let (keys, values) =
                unsafe { sequence.head_mut(position / POSITIONS, self.layer, head) };
            let lane = position % POSITIONS;
            for (line, key) in keys.iter_mut().zip(&row[residual + head * width..][..width]) {
                line.0[lane] = *key;
            }
            let value = &row[2 * residual + head * width..][..width];
            for (line, value) in values[lane * across..].iter_mut().zip(value.chunks(LANES)) {
                line.0[..value.len()].copy_from_slice(value);
            }
        }
    }
}

fn within_a_block(segment: &Segment, blocks: RowBlocks) -> bool {
    blocks.of(segment.first) == blocks.of(segment.first + segment.count - 1)
}

kernel! {
    /// One head of the rows of a row block.
    fn attend_block(
        attention: &Attention<'_>, blocks: RowBlocks, block: usize, head: usize, to: &mut [f32]
    ) = attend_block_body;
}

#[inline(always)]
fn attend_block_body<L: Tile>(
    l: L,
    attention: &Attention<'_>,
    blocks: RowBlocks,
    block: usize,
    head: usize,
    to: &mut [f32],
) {
    let mut workspace = Vec::new();
    let Range { start, end } = blocks.range(block);
    let mut row = start;
    while row < end {
        let segment = attention.rows.segment(row);
        if row == segment.first && within_a_block(segment, blocks) {
            // Here and not for all rows before: the row before has prefetched the keys' lines.
            attention.append_head(segment, head);
        }
        let last = end.min(segment.first + segment.count).min(row + L::ROWS);
        let next =
            (last < end).then(|| &attention.sequences[attention.rows.segment(last).sequence]);
        let run = SegmentRows {
            attention,
            next,
            sequence: &attention.sequences[segment.sequence],
            position: segment.start + row - segment.first,
            row,
            head,
            place: row - start,
            height: end - start,
        };
        with_rows!(last - row, L::ROWS, attend_rows::<L; R, 2>(l, run, &mut workspace, to));
        row = last;
    }
}

/// Rows of one sequence at consecutive positions.
#[derive(Clone, Copy)]
struct SegmentRows<'a> {
    attention: &'a Attention<'a>,
    sequence: &'a Sequence,
    /// The sequence of the rows after these, in this row block.
    next: Option<&'a Sequence>,
    position: usize,
    row: usize,
    head: usize,
    place: usize,
    height: usize,
}

impl<'a> SegmentRows<'a> {
    /// Keys and values of a chunk.
    #[inline(always)]
    fn head(self, chunk: usize) -> Head<'a> {
        // SAFETY: new positions were written by this task, or in a phase that has ended; nothing else writes
        // to these sequences.
        unsafe { self.sequence.head(chunk, self.attention.layer, self.head) }
    }

    /// The keys of a chunk of the next sequence. Chunks lie far apart, so they are prefetched: the values
    /// while the scores are computed, and the next sequence's keys while the values are mixed.
    #[inline(always)]
    fn next_keys(self, chunk: usize) -> &'a [Line] {
        match self.next {
            // SAFETY: as above: the rows of a row block belong to one task.
            Some(next) if chunk < next.len().div_ceil(POSITIONS) => unsafe {
                next.head(chunk, self.attention.layer, self.head).keys
            },
            _ => &[],
        }
    }
}

#[inline(always)]
fn attend_rows<L: Tile, const R: usize, const N: usize>(
    l: L,
    run: SegmentRows<'_>,
    workspace: &mut Vec<f32>,
    to: &mut [f32],
) {
    let attention = run.attention;
    let width = attention.shape.width;
    let residual = attention.shape.heads * width;
    let count = run.position + R;
    let chunks = count.div_ceil(POSITIONS);
    let positions = chunks * POSITIONS;
    // Not cleared: each place is written before it is read.
    let size = (width + 2 * positions) * R;
    if workspace.len() < size {
        workspace.resize(size, 0.0);
    }
    let (queries, rest) = workspace.split_at_mut(width * R);
    let (scores, rest) = rest.split_at_mut(positions * R);
    let terms = &mut rest[..positions * R];

    let scale = 1.0 / (width as f32).sqrt();
    for r in 0..R {
        let query = &attention.qkv[(run.row + r) * 3 * residual + run.head * width..][..width];
        for (to, q) in queries.iter_mut().skip(r).step_by(R).zip(query) {
            *to = q * scale;
        }
    }
    if R == 1 {
        let mut chunk = 0;
        while chunk < chunks {
            let scores = &mut scores[chunk * POSITIONS..];
            chunk += match chunks - chunk {
                1 => scores_of::<L, 1>(l, run, chunk, queries, scores),
                2 => scores_of::<L, 2>(l, run, chunk, queries, scores),
                3 => scores_of::<L, 3>(l, run, chunk, queries, scores),
                _ => scores_of::<L, 4>(l, run, chunk, queries, scores),
            };
        }
    } else {
        for chunk in 0..chunks {
            let mut acc = [[l.splat(0.0)]; R];
            let Head { keys, values } = run.head(chunk);
            let prefetch = Prefetch::of(values, 1);
            chains::<L, Floats<0>, R, 1, 1>(l, keys, 1, queries, R, prefetch, &mut acc);
            for (r, [acc]) in acc.into_iter().enumerate() {
                if let Some(to) = scores[r * positions + chunk * POSITIONS..].first_chunk_mut() {
                    l.store(acc, to);
                }
            }
        }
    }
    let mut totals = [0.0; BLOCK_ROWS];
    for (r, scores) in scores.chunks_exact_mut(positions).enumerate() {
        totals[r] = softmax_terms(l, scores, run.position + r + 1);
        for (to, term) in terms.iter_mut().skip(r).step_by(R).zip(scores.iter()) {
            *to = *term;
        }
    }

    let across = attention.shape.across;
    let mut vector = 0;
    while vector < across {
        // Enough chains to hide an addition's latency, as far as there are registers.
        let terms = &terms[..count * R];
        let taken = if R == 1 && L::LONE == 4 && vector + 4 <= across {
            mix::<L, R, 4>(l, run, terms, vector, &totals, to)
        } else if (L::ACROSS == 2 || R <= L::ROWS_OF_TWO) && vector + N <= across {
            mix::<L, R, N>(l, run, terms, vector, &totals, to)
        } else {
            mix::<L, R, 1>(l, run, terms, vector, &totals, to)
        };
        vector += taken;
    }
}

/// The scores of one row in `C` chunks from `chunk` on, together, because a single chain would wait for its
/// own additions.
#[inline(always)]
fn scores_of<L: Lanes, const C: usize>(
    l: L,
    run: SegmentRows<'_>,
    chunk: usize,
    queries: &[f32],
    scores: &mut [f32],
) -> usize {
    let heads: [_; C] = std::array::from_fn(|i| run.head(chunk + i));
    let mut acc = [l.splat(0.0); C];
    for (d, q) in queries.iter().enumerate() {
        let q = l.splat(*q);
        for (acc, head) in acc.iter_mut().zip(heads) {
            *acc = l.fma(q, l.load(&head.keys[d].0), *acc);
            if let Some(line) = head.values.get(d) {
                l.prefetch_l2(line);
            }
        }
    }
    for (to, acc) in scores.as_chunks_mut().0.iter_mut().zip(acc) {
        l.store(acc, to);
    }
    C
}

/// `N` vectors, from `vector` on, of the means of the values weighted by `terms`, which has `R` for each
/// position.
#[inline(always)]
fn mix<L: Lanes, const R: usize, const N: usize>(
    l: L,
    run: SegmentRows<'_>,
    terms: &[f32],
    vector: usize,
    totals: &[f32; BLOCK_ROWS],
    to: &mut [f32],
) -> usize {
    let (width, across) = (run.attention.shape.width, run.attention.shape.across);
    let mut acc = [[l.splat(0.0); N]; R];
    for (chunk, terms) in terms.chunks(POSITIONS * R).enumerate() {
        let values = &run.head(chunk).values[vector..];
        let next = if vector == 0 { run.next_keys(chunk) } else { &[] };
        let prefetch = Prefetch::of(next, 4);
        chains::<L, Floats<0>, R, N, 4>(l, values, across, terms, R, prefetch, &mut acc);
    }
    for r in 0..R {
        for (n, sum) in acc[r].iter().enumerate() {
            let mut mean = [0.0; LANES];
            l.store(l.div(*sum, l.splat(totals[r])), &mut mean);
            let first = (vector + n) * LANES;
            let used = LANES.min(width - first);
            let to = to.iter_mut().skip(first * run.height + run.place + r);
            for (to, y) in to.step_by(run.height).zip(&mean[..used]) {
                *to = *y;
            }
        }
    }
    N
}

/// exp(score - largest) of the first `count` positions, and zeros after them. Returns their sum, in sixteen
/// lanes that are added by one tree.
#[inline(always)]
fn softmax_terms<L: Lanes>(l: L, scores: &mut [f32], count: usize) -> f32 {
    scores[count..].fill(f32::MIN);
    let (lines, _) = scores.as_chunks_mut::<LANES>();
    let mut largest = l.splat(f32::MIN);
    for line in lines.iter() {
        largest = l.max(largest, l.load(line));
    }
    let largest = l.splat(l.largest(largest));
    for line in lines.iter_mut() {
        l.store(exp(l, l.sub(l.load(line), largest)), line);
    }
    scores[count..].fill(0.0);
    let (lines, _) = scores.as_chunks::<LANES>();
    let mut sum = l.splat(0.0);
    for line in lines {
        sum = l.add(sum, l.load(line));
    }
    l.sum(sum)
}
