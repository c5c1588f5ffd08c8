//! Attention over the KV cache, with the chains of the linear kernel.
//!
//! Queries and keys may first be normalised, and then turned by the angles of their position (see
//! `ops::norm` and `ops::rotary`). The score of a position is one chain over the head's dimensions, of the
//! query times the scale with the key. An output is one chain over the positions, upwards, of the softmax's
//! terms with the values, divided by the sum of the terms, which runs in sixteen lanes, position i in lane
//! i mod 16.
//!
//! Where several rows of a prompt are computed together, the terms of the positions after a row's own, and
//! of those before its window, are zeros. Adding those changes no bit except the sign of a zero, which the
//! sums of the next layer do not see. So a prompt gives the same bits whole or token by token.
//!
//! Several heads of queries may share a head of keys and values. They are one task, which alone appends to
//! that head of the cache, and rows of one register tile, so that the cache is read once for them.

use super::activations::exp;
use super::norm::{self, Norm, normalise_row};
use super::pass_rows::{PassRows, Segment};
use super::rotary::turn;
use super::row_blocks::{BLOCK_ROWS, RowBlocks};
use super::run::Run;
use super::tile::{Beside, Floats, InLines, Prefetch, Tile, chains, with_rows};
use crate::cache::{Head, HeadPlace, POSITIONS, Place, Reserved, Sequence, Shape, Strip, values};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};
use std::ops::Range;

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
            attend_part(level, task, blocks, rows, part, head, &to);
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
    /// Appends the keys and values that several row blocks need; `attend_block` appends the others, while
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

    #[inline(always)]
    fn append<L: Lanes>(self, l: L, segment: &Segment, head: usize, prepared: &mut Vec<f32>) {
        let Attention { heads, shape, .. } = *self.attention;
        let (strip, place) = (self.strip(segment.sequence), self.place(head));
        for i in 0..segment.count {
            let (row, position) = (segment.first + i, segment.start + i);
            // SAFETY: the position is reserved, as `new` has checked, and `Reserved` is borrowed mutably.
            // Each segment has a sequence of its own, whose head is appended to either by the task of the
            // only row block that reads it, or in a phase before.
            let (keys, values) =
                unsafe { strip.head_mut(strip.place_of(position / POSITIONS), place) };
            let lane = position % POSITIONS;
            let mut key = self.head(row, heads.queries + head);
            if !self.plain() {
                let prepared = room(prepared, shape.width, 0.0);
                prepared.copy_from_slice(key);
                self.prepare(l, row, Part::Key, prepared);
                key = prepared;
            }
            for (line, key) in keys.iter_mut().zip(key) {
                line.0[lane] = *key;
            }
            let value = self.head(row, heads.queries + shape.heads + head);
            values::write(values, lane, value);
        }
    }
}

kernel! {
    /// Appends one head of the keys and values of a segment to its cache.
    fn append_segment(task: Task<'_>, segment: &Segment, head: usize) = append_segment_body;
}

#[inline(always)]
fn append_segment_body<L: Lanes>(l: L, task: Task<'_>, segment: &Segment, head: usize) {
    task.append(l, segment, head, &mut Vec::new());
}

fn within_a_block(segment: &Segment, blocks: RowBlocks) -> bool {
    blocks.of(segment.first) == blocks.of(segment.first + segment.count - 1)
}

kernel! {
    /// The rows `part` of a row block, with one head of keys and values. A row block is divided only where
    /// each row has a sequence of its own.
    fn attend_part(
        task: Task<'_>,
        blocks: RowBlocks,
        block: Range<usize>,
        part: Range<usize>,
        head: usize,
        to: &DisjointSlice<'_, f32>
    ) = attend_part_body;
}

#[inline(always)]
fn attend_part_body<L: Tile>(
    l: L,
    task: Task<'_>,
    blocks: RowBlocks,
    block: Range<usize>,
    part: Range<usize>,
    head: usize,
    to: &DisjointSlice<'_, f32>,
) {
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
            task.append(l, segment, head, &mut workspace.prepared);
        }
        let last = end.min(segment.first + segment.count);
        let next = (last < end).then(|| task.written(rows.segment(last).sequence));
        let queries = (last - row) * task.group;
        for first in (0..queries).step_by(L::ROWS) {
            let count = L::ROWS.min(queries - first);
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
            with_rows!(count, L::ROWS, attend_rows::<L; R, 2>(l, tile, &mut workspace, to));
        }
        row = last;
    }
}

/// Queries of rows of one sequence at consecutive positions: for each row the heads that share a head of
/// keys and values.
#[derive(Clone, Copy)]
struct QueryTile<'a> {
    task: Task<'a>,
    strip: &'a Strip,
    /// Where the head lies in each of its chunks.
    place: HeadPlace,
    /// The chunks of the sequence of the rows after these, in this row block, and how many of them have been
    /// written to.
    next: Option<(&'a Strip, usize)>,
    /// The first row, and its position in the sequence.
    row: usize,
    position: usize,
    /// The first query, counted from the first row's first one.
    first: usize,
    head: usize,
    /// Where the head's outputs for the row block start.
    start: usize,
    /// The place of the first row in the row block.
    column: usize,
    height: usize,
}

impl<'a> QueryTile<'a> {
    /// How many rows after the first one a query of the tile belongs to, and its head among those that share
    /// keys and values.
    #[inline(always)]
    fn query(self, r: usize) -> (usize, usize) {
        let query = self.first + r;
        (query / self.task.group, query % self.task.group)
    }

    /// The positions that a query attends to.
    #[inline(always)]
    fn reach(self, r: usize) -> Range<usize> {
        let end = self.position + self.query(r).0 + 1;
        let start = match self.task.attention.heads.window {
            Some(window) => end.saturating_sub(window),
            None => 0,
        };
        start..end
    }

    /// Keys and values of a chunk of the strip.
    #[inline(always)]
    fn head(self, chunk: usize) -> Head<'a> {
        // SAFETY: new positions were written by this task, or in a phase that has ended; nothing else writes
        // to these sequences.
        unsafe { self.strip.head(chunk, self.place) }
    }

    /// The keys of a chunk of the next sequence. Chunks lie far apart, so they are prefetched: the values
    /// while the scores are computed, and the next sequence's keys while the values are mixed.
    #[inline(always)]
    fn next_keys(self, chunk: usize) -> &'a [Line] {
        match self.next {
            // SAFETY: as above: the rows of a row block belong to one task.
            Some((next, written)) if chunk < written => unsafe {
                next.head(chunk, self.place).keys
            },
            _ => &[],
        }
    }
}

/// What a task needs memory for; it is reused from tile to tile, without being cleared: each place is written
/// before it is read.
#[derive(Default)]
struct Workspace {
    /// The queries of a tile, beside each other.
    queries: Vec<f32>,
    /// A head of queries or keys.
    prepared: Vec<f32>,
    scores: Vec<Line>,
}

/// The first `count` elements of a buffer, which grows where it has fewer.
#[inline(always)]
fn room<T: Copy>(buffer: &mut Vec<T>, count: usize, fill: T) -> &mut [T] {
    if buffer.len() < count {
        buffer.resize(count, fill);
    }
    &mut buffer[..count]
}

#[inline(always)]
fn attend_rows<L: Tile, const R: usize, const N: usize>(
    l: L,
    tile: QueryTile<'_>,
    workspace: &mut Workspace,
    to: &DisjointSlice<'_, f32>,
) {
    let task = tile.task;
    let Shape { width, .. } = task.attention.shape;
    // Chunks before the window are not read.
    let first = tile.reach(0).start / POSITIONS;
    let before = first * POSITIONS;
    let begin = tile.strip.place_of(first);
    let count = tile.reach(R - 1).end - before;
    let chunks = count.div_ceil(POSITIONS);
    let Workspace { queries, prepared, scores } = workspace;
    let queries = room(queries, width * R, 0.0);
    let prepared = room(prepared, width, 0.0);
    // A line for each query of a chunk, one after the other.
    let scores = room(scores, chunks * R, Line::ZERO);

    let scale = task.attention.heads.scale;
    for r in 0..R {
        let (row, member) = tile.query(r);
        let mut query = task.head(tile.row + row, tile.head * task.group + member);
        if !task.plain() {
            prepared.copy_from_slice(query);
            task.prepare(l, tile.row + row, Part::Query, prepared);
            query = prepared;
        }
        for (to, q) in queries.iter_mut().skip(r).step_by(R).zip(query) {
            *to = q * scale;
        }
    }
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
    let mut totals = [0.0; BLOCK_ROWS];
    for (r, total) in totals.iter_mut().take(R).enumerate() {
        let Range { start, end } = tile.reach(r);
        *total = softmax_terms::<L, R>(l, scores, r, start - before..end - before);
    }

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
const FEW: usize = 4;

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
struct Terms<'a, const R: usize> {
    lines: &'a [[Line; R]],
    /// Positions: the last chunk may have fewer than a line.
    count: usize,
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
    let Shape { width, .. } = tile.task.attention.shape;
    let whole = width / LANES;
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
        let (row, member) = tile.query(r);
        for (n, sum) in acc[r].iter().enumerate() {
            let mut mean = [0.0; LANES];
            l.store(l.div(*sum, l.splat(totals[r])), &mut mean);
            let first = (vector + n) * LANES;
            let used = LANES.min(width - first);
            let place = tile.start + (member * width + first) * tile.height + tile.column + row;
            // SAFETY: this head of this row belongs to this task alone.
            unsafe { to.spread(place, tile.height, &mean[..used]) };
        }
    }
    N
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
fn fill_others<const R: usize>(
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
