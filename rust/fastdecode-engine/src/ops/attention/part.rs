//! What one thread does at a time: rows of a row block, with one head of keys and values.

use super::attend::{Attend, Workspace};
use super::query_tile::QueryTile;
use super::{Task, within_a_block};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::with_rows;
use fastdecode_simd::DisjointSlice;
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
