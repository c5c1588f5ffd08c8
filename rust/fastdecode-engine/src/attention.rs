//! Attention over the KV cache, with the linear kernel's chains.
//!
//! The score of a position is one chain over the head's dimensions; an output is one chain over the
//! positions, upwards, divided by the sum of the softmax's terms. Where rows of a prompt go together,
//! the terms of positions after a row's own are zeros, and adding those changes no bit (but the sign
//! of a zero, which the next layer's sums do not see); so a prompt gives the same bits whole or token
//! by token.

use crate::blocks::{BLOCK_ROWS, Blocks};
use crate::cache::{Head, POSITIONS, Sequence, Shape};
use crate::math::exp;
use crate::tile::{Ahead, Floats, Tile, chains, with_rows};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};
use std::ops::Range;

/// New tokens of one sequence: rows `first..first + count` of the activations, which stand at the
/// positions from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its index among the sequences.
    pub sequence: usize,
    /// Its first row.
    pub first: usize,
    /// Its rows.
    pub count: usize,
    /// The position of its first row.
    pub start: usize,
}

impl Segment {
    fn within_a_block(&self, blocks: Blocks) -> bool {
        blocks.of(self.first) == blocks.of(self.first + self.count - 1)
    }
}

/// One layer's attention.
pub struct Attention<'a> {
    /// The sequences, with room for the new positions.
    pub sequences: &'a [Sequence],
    /// What is new.
    pub segments: &'a [Segment],
    /// For each row, its segment.
    pub owners: &'a [u32],
    /// Queries, keys and values, `3 * heads * width` floats a row.
    pub qkv: &'a [f32],
    /// The layer.
    pub layer: usize,
    /// Heads.
    pub heads: usize,
    /// Sizes of the cache.
    pub shape: Shape,
}

impl Attention<'_> {
    /// Puts new keys and values into the cache where they are needed by more than one block of
    /// rows; `attend` does so for the others.
    pub fn append(&self, session: &mut Session<'_>, blocks: Blocks) {
        let wide: Vec<&Segment> =
            self.segments.iter().filter(|segment| !segment.within_a_block(blocks)).collect();
        session.run(wide.len() * self.heads, |task| {
            self.append_head(wide[task / self.heads], task % self.heads);
        });
    }

    /// Attends from each row to its positions up to its own; the result goes into blocks.
    ///
    /// # Panics
    /// Where a slice has another size than it should.
    pub fn attend(&self, level: Level, session: &mut Session<'_>, blocks: Blocks, to: &mut [f32]) {
        let width = self.heads * self.shape.width;
        assert_eq!(self.owners.len(), blocks.rows());
        assert_eq!(self.qkv.len(), blocks.rows() * 3 * width);
        assert_eq!(to.len(), blocks.rows() * width);
        let to = DisjointSlice::new(to);
        // Later blocks of a prompt have more to do, so they are taken first: claims go upwards.
        let tasks = blocks.count() * self.heads;
        session.run(tasks, |task| {
            let task = tasks - 1 - task;
            let (block, head) = (task / self.heads, task % self.heads);
            let rows = blocks.range(block);
            let start = rows.start * width + head * self.shape.width * rows.len();
            // SAFETY: this head of this block is this task's alone.
            let to = unsafe { to.part(start..start + self.shape.width * rows.len()) };
            attend_block(level, self, blocks, block, head, to);
        });
    }

    fn append_head(&self, segment: &Segment, head: usize) {
        let (width, across) = (self.shape.width, self.shape.across);
        let stream = self.heads * width;
        let sequence = &self.sequences[segment.sequence];
        for i in 0..segment.count {
            let position = segment.start + i;
            let row = &self.qkv[(segment.first + i) * 3 * stream..][..3 * stream];
            // SAFETY: the position was reserved, and this head of this sequence is this task's
            // alone: it is appended to by the only block that reads it, or in a phase of its own.
            let (keys, values) =
                unsafe { sequence.head_mut(position / POSITIONS, self.layer, head) };
            let lane = position % POSITIONS;
            for (line, key) in keys.iter_mut().zip(&row[stream + head * width..][..width]) {
                line.0[lane] = *key;
            }
            let value = &row[2 * stream + head * width..][..width];
            for (line, value) in values[lane * across..].iter_mut().zip(value.chunks(LANES)) {
                line.0[..value.len()].copy_from_slice(value);
            }
        }
    }
}

kernel! {
    /// The rows of a block in one head.
    fn attend_block(
        attention: &Attention<'_>, blocks: Blocks, block: usize, head: usize, to: &mut [f32]
    ) = attend_block_body;
}

#[inline(always)]
fn attend_block_body<L: Tile>(
    l: L,
    attention: &Attention<'_>,
    blocks: Blocks,
    block: usize,
    head: usize,
    to: &mut [f32],
) {
    let mut scratch = Vec::new();
    let Range { start, end } = blocks.range(block);
    let mut row = start;
    while row < end {
        let segment = &attention.segments[attention.owners[row] as usize];
        if row == segment.first && segment.within_a_block(blocks) {
            // Here, not for all rows at first: the row before has asked for the keys' lines.
            attention.append_head(segment, head);
        }
        let last = end.min(segment.first + segment.count).min(row + L::ROWS);
        let next = attention.owners[row..end].get(last - row).map(|&owner| {
            let segment = &attention.segments[owner as usize];
            &attention.sequences[segment.sequence]
        });
        let run = Run {
            attention,
            next,
            sequence: &attention.sequences[segment.sequence],
            position: segment.start + row - segment.first,
            row,
            head,
            place: row - start,
            height: end - start,
        };
        with_rows!(last - row, L::ROWS, attend_run::<L; R, 2>(l, run, &mut scratch, to));
        row = last;
    }
}

/// Rows of one sequence at consecutive positions.
#[derive(Clone, Copy)]
struct Run<'a> {
    attention: &'a Attention<'a>,
    sequence: &'a Sequence,
    /// That of the rows after these, in this block.
    next: Option<&'a Sequence>,
    position: usize,
    row: usize,
    head: usize,
    place: usize,
    height: usize,
}

impl<'a> Run<'a> {
    /// Keys and values of a chunk.
    #[inline(always)]
    fn head(self, chunk: usize) -> Head<'a> {
        // SAFETY: new positions were written by this task, or in a phase that has ended.
        unsafe { self.sequence.head(chunk, self.attention.layer, self.head) }
    }

    /// The keys of a chunk of the next row. Chunks of a sequence lie far apart, so they are asked for:
    /// values while the scores are made, the next row's keys while the values are mixed. (Asking for
    /// all of them during the linear layer before brought 1% with 32 rows and cost 2% with 8.)
    #[inline(always)]
    fn ahead(self, chunk: usize) -> &'a [Line] {
        match self.next {
            // SAFETY: as above: the rows of a block belong to one task.
            Some(next) if chunk < next.len().div_ceil(POSITIONS) => unsafe {
                next.head(chunk, self.attention.layer, self.head).keys
            },
            _ => &[],
        }
    }
}

#[inline(always)]
fn attend_run<L: Tile, const R: usize, const N: usize>(
    l: L,
    run: Run<'_>,
    scratch: &mut Vec<f32>,
    to: &mut [f32],
) {
    let attention = run.attention;
    let width = attention.shape.width;
    let stream = attention.heads * width;
    let count = run.position + R;
    let chunks = count.div_ceil(POSITIONS);
    let positions = chunks * POSITIONS;
    // Each place is written before it is read.
    let size = (width + 2 * positions) * R;
    if scratch.len() < size {
        scratch.resize(size, 0.0);
    }
    let (queries, rest) = scratch.split_at_mut(width * R);
    let (scores, rest) = rest.split_at_mut(positions * R);
    let terms = &mut rest[..positions * R];

    let scale = 1.0 / (width as f32).sqrt();
    for r in 0..R {
        let query = &attention.qkv[(run.row + r) * 3 * stream + run.head * width..][..width];
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
            let ahead = Ahead::of(values, 1);
            chains::<L, Floats<0>, R, 1, 1>(l, keys, 1, queries, R, ahead, &mut acc);
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
        // At least the chains that hide an addition's latency, at most the registers.
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

/// The scores of one row in `C` chunks from `chunk` on: together, as a lone chain would wait for itself.
#[inline(always)]
fn scores_of<L: Lanes, const C: usize>(
    l: L,
    run: Run<'_>,
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

/// `N` vectors, from `vector` on, of the means of the values, weighted with `terms`, `R` a position.
#[inline(always)]
fn mix<L: Lanes, const R: usize, const N: usize>(
    l: L,
    run: Run<'_>,
    terms: &[f32],
    vector: usize,
    totals: &[f32; BLOCK_ROWS],
    to: &mut [f32],
) -> usize {
    let Shape { width, across, .. } = run.attention.shape;
    let mut acc = [[l.splat(0.0); N]; R];
    for (chunk, terms) in terms.chunks(POSITIONS * R).enumerate() {
        let values = &run.head(chunk).values[vector..];
        let next = if vector == 0 { run.ahead(chunk) } else { &[] };
        chains::<L, Floats<0>, R, N, 4>(l, values, across, terms, R, Ahead::of(next, 4), &mut acc);
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

/// exp(score - largest) of the first `count` positions, zero beyond; returns their sum, in sixteen
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
