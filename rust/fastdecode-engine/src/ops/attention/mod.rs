//! Attention over the KV cache.
//!
//! Queries and keys may first be normalised, and then turned by the angles of their position (see
//! `ops::norm` and `ops::rotary`). The score of a position is one chain over the head's dimensions, of the
//! query times the scale with the key. An output is one chain over the positions, upwards, of the softmax's
//! terms with the values, divided by the sum of the terms, which runs in sixteen lanes, position i in lane
//! i mod 16. That is so for caches in float32 and bfloat16; `integers` has the definition for int8.
//!
//! Where several rows of a prompt are computed together, the terms of the positions after a row's own, and
//! of those before its window, are zeros. Adding those changes no bit except the sign of a zero, which the
//! sums of the next layer do not see. So a prompt gives the same bits whole or token by token.
//!
//! Several heads of queries may share a head of keys and values. They are one task, which alone appends to
//! that head of the cache, and rows of one register tile, so that the cache is read once for them.

mod append;
mod attend;
mod floats;
mod halves;
mod integers;
mod part;
mod query_tile;
mod rounding;
mod softmax;
mod terms;

use super::norm::{self, Norm, normalise_row};
use super::pass_rows::{PassRows, Segment};
use super::rotary::turn;
use super::row_blocks::RowBlocks;
use super::run::Run;
use crate::cache::{CacheFormat, HeadPlace, POSITIONS, Place, Reserved, Sequence, Shape, Strip};
use append::append_segment;
use fastdecode_simd::{DisjointSlice, Lanes, Level, Session};
use part::Share;

/// The heads of a layer.
#[derive(Debug)]
pub(crate) struct Heads {
    /// Heads of queries: a multiple of the heads of keys and values.
    pub queries: usize,
    /// What queries are multiplied by.
    pub scale: f32,
    /// The most positions that a row attends to, its own among them.
    pub window: Option<usize>,
    /// The norms of each head of queries and of keys.
    pub norms: Option<[Norm; 2]>,
}

/// Causal attention of one layer.
pub(crate) struct Attention<'a> {
    sequences: &'a [Sequence],
    rows: &'a PassRows,
    /// Queries, keys and values of each row.
    qkv: &'a [f32],
    /// Cosines and sines of each row.
    angles: Option<&'a [f32]>,
    heads: &'a Heads,
    /// Where the layer's keys and values lie.
    place: Place,
    shape: Shape,
}

/// [`Attention`] with its parameters.
#[derive(Clone, Copy)]
struct Task<'a> {
    attention: &'a Attention<'a>,
    norms: Option<[norm::Operands<'a>; 2]>,
    /// Heads of queries for each head of keys and values.
    group: usize,
    /// Floats of a row of `qkv`.
    stride: usize,
}

/// What a head is: it decides about the norm.
#[derive(Clone, Copy)]
enum Part {
    Query = 0,
    Key = 1,
}

impl<'a> Attention<'a> {
    /// Over these sequences and rows. `qkv` has the queries, keys and values of each row, in this order,
    /// each head as wide as in the cache; `angles` the cosines and sines of each row.
    ///
    /// # Panics
    /// If a row stands at a position that its sequence has no room for, the layer keeps another window, or a
    /// slice has another size.
    pub fn new(
        sequences: &'a mut Reserved<'_>,
        rows: &'a PassRows,
        (qkv, angles): (&'a [f32], Option<&'a [f32]>),
        heads: &'a Heads,
        layer: usize,
    ) -> Self {
        let place = sequences.layout().place(layer);
        let kind = &sequences.layout().kinds()[place.kind];
        assert_eq!(kind.window, heads.window);
        for segment in rows.segments() {
            let room = sequences.room(segment.sequence);
            assert!(room.start <= segment.start && segment.start + segment.count <= room.end);
            let first = sequences[segment.sequence].strip(place.kind).range().start;
            assert!(first <= kind.attended(segment.start).start);
        }
        let shape = kind.shape;
        assert!(heads.queries.is_multiple_of(shape.heads) && heads.window != Some(0));
        assert_eq!(qkv.len(), rows.len() * (heads.queries + 2 * shape.heads) * shape.width);
        assert!(angles.is_none_or(|angles| angles.len() <= rows.len() * shape.width));
        Self { sequences, rows, qkv, angles, heads, place, shape }
    }

    /// Appends the new keys and values to the cache, and attends from each row to the positions up to its
    /// own. Writes row blocks, `heads.queries * shape.width` wide.
    ///
    /// # Panics
    /// If `to` or `blocks` has another size.
    pub fn apply(self, run: &mut Run<'_>, blocks: RowBlocks, to: &mut [f32]) {
        let weights = run.weights;
        let norms = self.heads.norms.as_ref();
        let task = Task {
            attention: &self,
            norms: norms.map(|norms| [norms[0].operands(weights), norms[1].operands(weights)]),
            group: self.heads.queries / self.shape.heads,
            stride: (self.heads.queries + 2 * self.shape.heads) * self.shape.width,
        };
        let (heads, width) = (self.shape.heads, self.heads.queries * self.shape.width);
        assert_eq!(blocks.rows(), self.rows.len());
        assert_eq!(to.len(), blocks.rows() * width);
        let level = run.level;
        task.append_wide(level, &mut run.session, blocks);
        let to = DisjointSlice::new(to);
        let parts = self.parts(blocks, run.session.threads());
        // Later row blocks of a prompt have more to do, so they are taken first: claims go upwards.
        let tasks = blocks.count() * heads * parts;
        run.session.run(tasks, |index| {
            let index = tasks - 1 - index;
            // Threads begin far apart in this order, so they rarely write to the same head at once.
            let (block, head, part) = (index / parts / heads, index / parts % heads, index % parts);
            let rows = blocks.range(block);
            let share = |part: usize| rows.start + part * rows.len() / parts;
            let part = share(part)..share(part + 1);
            let share = Share { task, blocks, rows, part, head, to: &to };
            match self.shape.format {
                CacheFormat::Float32 => floats::attend(level, share),
                CacheFormat::BFloat16 => halves::attend(level, share),
                CacheFormat::Int8 => integers::attend(level, share),
            }
        });
    }

    /// The number of parts that the rows of a row block are divided into, so that no thread has much more
    /// to do than another: one, unless each row has a sequence of its own.
    ///
    /// A model may have few heads of keys and values, and a decode step a single row block.
    fn parts(&self, blocks: RowBlocks, threads: usize) -> usize {
        if self.rows.segments().len() < self.rows.len() {
            return 1;
        }
        let (tasks, height) = (blocks.count() * self.shape.heads, blocks.range(0).len());
        // The rows of the thread that has the most to do.
        let most = |parts: &usize| (tasks * parts).div_ceil(threads) * height.div_ceil(*parts);
        (1..=height).min_by_key(most).unwrap_or(1)
    }
}

impl<'a> Task<'a> {
    /// Appends the keys and values that several row blocks need; `part` appends the others, while
    /// they are in its cache.
    fn append_wide(self, level: Level, session: &mut Session<'_>, blocks: RowBlocks) {
        let wide: Vec<&Segment> = self
            .attention
            .rows
            .segments()
            .iter()
            .filter(|segment| !within_a_block(segment, blocks))
            .collect();
        let heads = self.attention.shape.heads;
        session.run(wide.len() * heads, |index| {
            append_segment(level, self, wide[index / heads], index % heads);
        });
    }

    /// A head of a row of `qkv`, counted over queries, keys and values.
    #[inline(always)]
    fn head(self, row: usize, head: usize) -> &'a [f32] {
        let width = self.attention.shape.width;
        &self.attention.qkv[row * self.stride + head * width..][..width]
    }

    /// The chunks of a sequence for this layer.
    #[inline(always)]
    fn strip(self, sequence: usize) -> &'a Strip {
        self.attention.sequences[sequence].strip(self.attention.place.kind)
    }

    /// The chunks of a sequence for this layer, and how many of them it had before this pass.
    #[inline(always)]
    fn written(self, sequence: usize) -> (&'a Strip, usize) {
        let strip = self.strip(sequence);
        let chunks = self.attention.sequences[sequence].len().div_ceil(POSITIONS);
        (strip, chunks.saturating_sub(strip.range().start))
    }

    /// Where a head of keys and values lies in them.
    #[inline(always)]
    fn place(self, head: usize) -> HeadPlace {
        self.attention.shape.head(self.attention.place.layer, head)
    }

    /// Whether heads of queries and keys are taken as they are.
    #[inline(always)]
    fn plain(self) -> bool {
        self.norms.is_none() && self.attention.angles.is_none()
    }

    /// Normalises and turns a head of a row.
    #[inline(always)]
    fn prepare<L: Lanes>(self, l: L, row: usize, part: Part, head: &mut [f32]) {
        if let Some(norms) = self.norms {
            normalise_row(l, norms[part as usize], head);
        }
        if let Some(angles) = self.attention.angles {
            let width = angles.len() / self.attention.rows.len();
            turn(&angles[row * width..][..width], head);
        }
    }
}

fn within_a_block(segment: &Segment, blocks: RowBlocks) -> bool {
    blocks.of(segment.first) == blocks.of(segment.first + segment.count - 1)
}

#[cfg(test)]
mod tests;
