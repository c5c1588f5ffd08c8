//! The queries that are computed together.

use super::{Part, Task};
use crate::cache::{Head, HeadPlace, POSITIONS, Strip};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Line};
use std::ops::Range;

/// Queries of rows of one sequence at consecutive positions: for each row the heads that share a head of
/// keys and values.
#[derive(Clone, Copy)]
pub struct QueryTile<'a> {
    pub task: Task<'a>,
    pub strip: &'a Strip,
    /// Where the head lies in each of its chunks.
    pub place: HeadPlace,
    /// The chunks of the sequence of the rows after these, in this row block, and how many of them have been
    /// written to.
    pub next: Option<(&'a Strip, usize)>,
    /// The first row, and its position in the sequence.
    pub row: usize,
    pub position: usize,
    /// The first query, counted from the first row's first one.
    pub first: usize,
    pub head: usize,
    /// Where the head's outputs for the row block start.
    pub start: usize,
    /// The place of the first row in the row block.
    pub column: usize,
    pub height: usize,
}

impl<'a> QueryTile<'a> {
    /// How many rows after the first one a query of the tile belongs to, and its head among those that share
    /// keys and values.
    #[inline(always)]
    pub fn query(self, r: usize) -> (usize, usize) {
        let query = self.first + r;
        (query / self.task.group, query % self.task.group)
    }

    /// The positions that a query attends to.
    #[inline(always)]
    pub fn reach(self, r: usize) -> Range<usize> {
        let end = self.position + self.query(r).0 + 1;
        let start = match self.task.attention.heads.window {
            Some(window) => end.saturating_sub(window),
            None => 0,
        };
        start..end
    }

    /// Keys and values of a chunk of the strip.
    #[inline(always)]
    pub fn head(self, chunk: usize) -> Head<'a> {
        // SAFETY: new positions were written by this task, or in a phase that has ended; nothing else writes
        // to these sequences.
        unsafe { self.strip.head(chunk, self.place) }
    }

    /// The keys of a chunk of the next sequence. Chunks lie far apart, so they are prefetched: the values
    /// while the scores are computed, and the next sequence's keys while the values are mixed.
    #[inline(always)]
    pub fn next_keys(self, chunk: usize) -> &'a [Line] {
        match self.next {
            // SAFETY: as above: the rows of a row block belong to one task.
            Some((next, written)) if chunk < written => unsafe {
                next.head(chunk, self.place).keys
            },
            _ => &[],
        }
    }

    /// A query, normalised and turned.
    #[inline(always)]
    pub fn prepared<'b, L: Lanes>(self, l: L, r: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let task = self.task;
        let (row, member) = self.query(r);
        let query = task.head(self.row + row, self.head * task.group + member);
        if task.plain() {
            return query;
        }
        room.copy_from_slice(query);
        task.prepare(l, self.row + row, Part::Query, room);
        room
    }

    /// The queries of a tile times the scale, beside each other.
    #[inline(always)]
    pub fn queries<'b, L: Lanes, const R: usize>(
        self,
        l: L,
        queries: &'b mut Vec<f32>,
        prepared: &mut Vec<f32>,
    ) -> &'b [f32] {
        let (width, scale) = (self.task.attention.shape.width, self.task.attention.heads.scale);
        let queries = room(queries, width * R, 0.0);
        let prepared = room(prepared, width, 0.0);
        for r in 0..R {
            let query = self.prepared(l, r, prepared);
            for (to, q) in queries.iter_mut().skip(r).step_by(R).zip(query) {
                *to = q * scale;
            }
        }
        queries
    }

    /// The chunks that the queries of a tile attend to.
    #[inline(always)]
    pub fn extent<const R: usize>(self) -> Extent {
        // Chunks before the window are not read.
        let first = self.reach(0).start / POSITIONS;
        let before = first * POSITIONS;
        let count = self.reach(R - 1).end - before;
        let chunks = count.div_ceil(POSITIONS);
        Extent { before, begin: self.strip.place_of(first), count, chunks }
    }

    /// Writes `N` vectors, from `vector` on, of the outputs of query `r`: sums divided by the total.
    #[inline(always)]
    pub fn write<L: Lanes, const N: usize>(
        self,
        l: L,
        (r, vector): (usize, usize),
        sums: [L::V; N],
        total: f32,
        to: &DisjointSlice<'_, f32>,
    ) {
        let width = self.task.attention.shape.width;
        let (row, member) = self.query(r);
        for (n, sum) in sums.into_iter().enumerate() {
            let mut mean = [0.0; LANES];
            l.store(l.div(sum, l.splat(total)), &mut mean);
            let first = (vector + n) * LANES;
            let used = LANES.min(width - first);
            let place = self.start + (member * width + first) * self.height + self.column + row;
            // SAFETY: this head of this row belongs to this task alone.
            unsafe { to.spread(place, self.height, &mean[..used]) };
        }
    }
}

/// Chunks of a strip.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Positions of the sequence before the first of them.
    pub before: usize,
    /// The place of the first one in the strip.
    pub begin: usize,
    /// Positions in them: the last chunk may have fewer than a line.
    pub count: usize,
    pub chunks: usize,
}

/// The first `count` elements of a buffer, which grows where it has fewer.
#[inline(always)]
pub fn room<T: Copy>(buffer: &mut Vec<T>, count: usize, fill: T) -> &mut [T] {
    if buffer.len() < count {
        buffer.resize(count, fill);
    }
    &mut buffer[..count]
}
