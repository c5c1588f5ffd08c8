//! What one thread does at a time: rows of a row block, with one head of keys and values.

use super::append::Prepared;
use super::floats::OnFloats;
use super::halves::OnHalves;
use super::integers::Term;
use super::query_tile::QueryTile;
use super::rounding::Rounded;
use super::{Task, within_a_block};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::{Tile, with_rows};
use fastdecode_simd::{DisjointSlice, Line, kernel};
use std::ops::Range;

/// The rows `part` of a row block, with one head of keys and values. A row block is divided only where each
/// row has a sequence of its own.
#[derive(Clone)]
pub struct Share<'a> {
    pub task: Task<'a>,
    pub blocks: RowBlocks,
    pub rows: Range<usize>,
    pub part: Range<usize>,
    pub head: usize,
    pub to: &'a DisjointSlice<'a, f32>,
}

/// How queries attend to a cache of one format, on one instruction set.
pub trait Attend: Copy {
    type L: Tile;
    /// The most queries of a tile.
    const ROWS: usize;

    fn lanes(self) -> Self::L;

    /// The outputs of a tile of `R` queries; `N` vectors of values are mixed at once where there are registers
    /// for them.
    fn attend<const R: usize, const N: usize>(
        self,
        tile: QueryTile<'_>,
        workspace: &mut Workspace,
        to: &DisjointSlice<'_, f32>,
    );
}

/// What a task needs memory for; it is reused from tile to tile, without being cleared: each place is written
/// before it is read.
#[derive(Default)]
pub struct Workspace {
    /// The queries of a tile, beside each other.
    pub queries: Vec<f32>,
    pub prepared: Prepared,
    pub scores: Vec<Line>,
    /// The queries of a tile as integers.
    pub words: Vec<[i32; 2]>,
    pub rounded: Rounded,
    /// The softmax's terms as integers.
    pub terms: Vec<Term>,
}

kernel! {
    /// A share of attention over a float32 cache.
    pub(super) fn attend_floats(share: Share<'_>) = attend_floats_body;
}

#[inline(always)]
fn attend_floats_body<L: Tile>(l: L, share: Share<'_>) {
    attend_share(OnFloats(l), share);
}

kernel! {
    /// A share of attention over a bfloat16 cache.
    pub(super) fn attend_halves(share: Share<'_>) = attend_halves_body;
}

#[inline(always)]
fn attend_halves_body<L: Tile>(l: L, share: Share<'_>) {
    attend_share(OnHalves(l), share);
}

#[inline(always)]
pub fn attend_share<A: Attend>(a: A, share: Share<'_>) {
    let Share { task, blocks, rows: block, part, head, to } = share;
    let mut workspace = Workspace::default();
    let rows = task.attention.rows;
    let place = task.place(head);
    let width = task.group * task.attention.shape.width;
    let heads = task.attention.shape.heads;
    let Range { start: mut row, end } = part;
    while row < end {
        let segment = rows.segment(row);
        if row == segment.first && within_a_block(segment, blocks) {
            // Here and not for all rows before: the row before has prefetched the keys' lines.
            task.append(a.lanes(), segment, head, &mut workspace.prepared);
        }
        let last = end.min(segment.first + segment.count);
        let next = (last < end).then(|| task.written(rows.segment(last).sequence));
        let queries = (last - row) * task.group;
        for first in (0..queries).step_by(A::ROWS) {
            let count = A::ROWS.min(queries - first);
            let tile = QueryTile {
                task,
                next: if first + count == queries { next } else { None },
                strip: task.strip(segment.sequence),
                place,
                position: segment.start + row - segment.first,
                row,
                first,
                head,
                start: block.start * heads * width + head * width * block.len(),
                column: row - block.start,
                height: block.len(),
            };
            with_rows!(count, A::ROWS, attend_tile::<A; R, 2>(a, tile, &mut workspace, to));
        }
        row = last;
    }
}

#[inline(always)]
fn attend_tile<A: Attend, const R: usize, const N: usize>(
    a: A,
    tile: QueryTile<'_>,
    workspace: &mut Workspace,
    to: &DisjointSlice<'_, f32>,
) {
    a.attend::<R, N>(tile, workspace, to);
}
