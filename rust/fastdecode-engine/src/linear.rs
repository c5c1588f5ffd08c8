//! Linear layers: packed weights, read once for all rows.
//!
//! Weights lie in panels of 32 outputs: two lines for each k, k upwards. An output is defined as
//! the sum, in order, of one chain of fused multiply-adds for each 128 inputs (blocks keep rounding
//! errors as small as those of a library's product), plus the bias. The definition knows nothing of
//! rows, tiles, threads or vectors.
//!
//! Products of well-kept crates were looked at first. `matrixmultiply`, `gemm` and `rten-gemm`
//! choose blocks, tiles and fused or separate multiply-adds by shape and machine, so their bits
//! change with the batch; and none of them reads the weights at the speed of memory with few rows.
//! The tile below does both jobs, a decode step and a prefill.

use crate::blocks::{BLOCK_ROWS, Blocks, interleave};
use crate::dtype::{ACROSS, CHAIN, Dtype, PANEL};
use crate::integers::dots;
use crate::math::gelu;
use crate::quantise::Quantised;
use crate::tile::{Ahead, Floats, Halves, Stored, Tile, chains, with_rows};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};
use std::ops::Range;

/// The weights and biases of a layer, borrowed from where they are kept.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// What the weights are stored as.
    pub dtype: Dtype,
    /// `outputs` rounded up to panels, of `Dtype::panel_lines` lines each.
    pub weights: &'a [Line],
    /// For int8, a scale for each output of the panels.
    pub scales: &'a [Line],
    /// A bias for each output of the panels.
    pub bias: &'a [Line],
    /// Inputs.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
}

/// Where outputs go.
#[derive(Clone, Copy)]
pub enum Output<'a, 'b> {
    /// To `rows[row * outputs + output]`.
    Rows(&'a DisjointSlice<'b, f32>),
    /// Added there.
    Add(&'a DisjointSlice<'b, f32>),
    /// Through GELU, as blocks for the next layer.
    Gelu(&'a DisjointSlice<'b, f32>),
}

impl Linear<'_> {
    /// The layer applied to `x`, the blocks of the rows, `inputs` wide. Where it is one of
    /// integers, `integers` is what is needed of memory.
    ///
    /// # Panics
    /// Where a slice has another size than it should.
    pub fn apply(
        &self,
        level: Level,
        session: &mut Session<'_>,
        blocks: Blocks,
        x: &[f32],
        integers: &mut Quantised,
        output: Output<'_, '_>,
    ) {
        let (Output::Rows(out) | Output::Add(out) | Output::Gelu(out)) = output;
        let panels = self.outputs.div_ceil(PANEL);
        let lines = self.dtype.panel_lines(self.inputs);
        assert_eq!(self.weights.len(), panels * lines);
        assert_eq!(self.bias.len(), panels * ACROSS);
        assert_eq!(x.len(), blocks.rows() * self.inputs);
        assert_eq!(out.len(), blocks.rows() * self.outputs);
        if self.dtype == Dtype::Int8 {
            assert_eq!(self.scales.len(), panels * ACROSS);
            integers.fill(level, session, blocks, x, self.inputs);
        }
        // No larger than it need be: clearing sums of several blocks where there is one took 3% of a step.
        let through = if blocks.count() == 1 { through::<1> } else { through::<TOGETHER> };
        session.run(panels, |index| {
            let panel = Panel {
                linear: self,
                index,
                weights: &self.weights[index * lines..(index + 1) * lines],
            };
            through(level, panel, blocks, x, integers, output);
        });
    }
}

/// One panel of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub linear: &'a Linear<'a>,
    pub index: usize,
    pub weights: &'a [Line],
}

/// Blocks of rows that go together through each stretch of a panel, which they have in the cache, and
/// each asks for its share of the next one. Left to the processor, which fetches well for one row
/// and not for eight, the arithmetic of a step of eight rows came on top of the reading: 19 ms
/// instead of 16.
const TOGETHER: usize = 4;

/// What a panel makes of a block of rows, before scales and biases.
pub(crate) type Sums = [[Line; ACROSS]; BLOCK_ROWS];

/// All rows through one panel.
///
/// The sums and what becomes of them are kernels apart. In one function the constants of GELU were
/// loaded anew in the innermost loop, which took a tenth of its time.
fn through<const MOST: usize>(
    level: Level,
    panel: Panel<'_>,
    blocks: Blocks,
    x: &[f32],
    integers: &Quantised,
    output: Output<'_, '_>,
) {
    let mut sums = [[[Line::ZERO; ACROSS]; BLOCK_ROWS]; MOST];
    for first in (0..blocks.count()).step_by(MOST) {
        let group = first..blocks.count().min(first + MOST);
        let sums = &mut sums[..group.len()];
        let of = group.clone();
        match panel.linear.dtype {
            Dtype::Float32 => float32(level, panel, blocks, of, x, sums),
            Dtype::BFloat16 => bfloat16(level, panel, blocks, of, x, sums),
            Dtype::Int8 => dots(level, panel, blocks, of, integers, sums),
        }
        for (block, sums) in group.zip(sums) {
            give(level, panel, blocks.range(block), sums, output);
        }
    }
}

kernel! {
    /// A group of blocks through one panel.
    fn float32(
        panel: Panel<'_>, blocks: Blocks, group: Range<usize>, x: &[f32], sums: &mut [Sums]
    ) = sums_body::<_, Floats<0>>;
}

kernel! {
    /// The same for weights in bfloat16, which are widened as they are read.
    fn bfloat16(
        panel: Panel<'_>, blocks: Blocks, group: Range<usize>, x: &[f32], sums: &mut [Sums]
    ) = sums_body::<_, Halves<0>>;
}

#[inline(always)]
fn sums_body<L: Tile, S: Stored>(
    l: L,
    panel: Panel<'_>,
    blocks: Blocks,
    group: Range<usize>,
    x: &[f32],
    sums: &mut [Sums],
) {
    let inputs = panel.linear.inputs;
    for (chain, now) in panel.weights.chunks(CHAIN * S::LINES).enumerate() {
        let stretch = chain * CHAIN..inputs.min((chain + 1) * CHAIN);
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let x = &x[rows.start * inputs..rows.end * inputs]
                [stretch.start * height..stretch.end * height];
            let ahead = ahead(now, i, group.len());
            products::<L, S>(l, now, x, height, ahead, chain, &mut sums[..height]);
        }
    }
}

/// What block `i` of `count` asks for during a stretch of a panel: where it is alone, the lines a
/// little ahead of those that it reads; else its share of the next stretch. A panel is followed by the one
/// that its thread will most likely have next.
#[inline(always)]
pub(crate) fn ahead(now: &[Line], i: usize, count: usize) -> Ahead {
    if count == 1 {
        return Ahead::following(now, NEAR, ASKED);
    }
    let start = |i: usize| i * now.len().div_ceil(ASKED) / count * ASKED;
    Ahead::behind(now, now.len() + start(i), start(i + 1) - start(i), ASKED)
}

/// Lines between what is read and what is asked for (8 KiB).
pub(crate) const NEAR: usize = 128;
/// Lines that are asked for at once.
pub(crate) const ASKED: usize = 2;

kernel! {
    /// The sums of one panel and one block of rows, with their scales and biases, to where they go.
    pub(crate) fn give(
        panel: Panel<'_>, rows: Range<usize>, sums: &mut Sums, output: Output<'_, '_>
    ) = give_body;
}

#[inline(always)]
fn give_body<L: Lanes>(
    l: L,
    panel: Panel<'_>,
    rows: Range<usize>,
    sums: &mut Sums,
    output: Output<'_, '_>,
) {
    let Panel { linear, index, .. } = panel;
    let height = rows.len();
    let sums = &mut sums[..height];
    let of = |lines: &[Line], n: usize| l.load(&lines[index * ACROSS + n].0);
    let bias = [of(linear.bias, 0), of(linear.bias, 1)];
    let scales = match linear.dtype {
        Dtype::Int8 => Some([of(linear.scales, 0), of(linear.scales, 1)]),
        Dtype::Float32 | Dtype::BFloat16 => None,
    };
    for sum in sums.iter_mut() {
        for (n, line) in sum.iter_mut().enumerate() {
            let y = l.load(&line.0);
            let y = match scales {
                Some(scales) => l.fma(y, scales[n], bias[n]),
                None => l.add(y, bias[n]),
            };
            let y = if let Output::Gelu(_) = output { gelu(l, y) } else { y };
            l.store(y, &mut line.0);
        }
    }
    let first = index * PANEL;
    let width = PANEL.min(linear.outputs - first);
    match output {
        Output::Rows(out) | Output::Add(out) => {
            let add = matches!(output, Output::Add(_));
            for (row, sum) in rows.zip(sums) {
                // SAFETY: these outputs belong to this panel, which is this task's alone.
                let to = unsafe { out.part(place(row, linear.outputs, first, width)) };
                let (lines, rest) = to.as_chunks_mut::<LANES>();
                for (to, line) in lines.iter_mut().zip(sum.iter()) {
                    let y = l.load(&line.0);
                    l.store(if add { l.add(l.load(to), y) } else { y }, to);
                }
                if let Some(line) = sum.get(lines.len()) {
                    for (to, y) in rest.iter_mut().zip(line.0) {
                        *to = if add { *to + y } else { y };
                    }
                }
            }
        }
        Output::Gelu(out) => {
            let start = rows.start * linear.outputs + first * height;
            // SAFETY: as above; in a block, the rows of an output lie together.
            let to = unsafe { out.part(start..start + width * height) };
            // Single floats here, whole lines there: that memory is at first in the cache of the thread that
            // read it last, and more than a few single stores cannot wait for it at once.
            let mut lines = [0.0; PANEL * BLOCK_ROWS];
            let lines = &mut lines[..to.len()];
            for (n, lines) in lines.chunks_mut(LANES * height).enumerate() {
                interleave(l, sums, n, lines);
            }
            to.copy_from_slice(lines);
        }
    }
}

#[inline(always)]
fn place(row: usize, outputs: usize, first: usize, width: usize) -> Range<usize> {
    row * outputs + first..row * outputs + first + width
}

/// One stretch of a panel, at most a chain long, with one block of rows.
#[inline(always)]
fn products<L: Tile, S: Stored>(
    l: L,
    weights: &[Line],
    x: &[f32],
    height: usize,
    ahead: Ahead,
    chain: usize,
    sums: &mut [[Line; ACROSS]],
) {
    let mut done = 0;
    while done < height {
        let rows = (height - done).min(L::ROWS);
        let sums = &mut sums[done..done + rows];
        let x = &x[done..];
        let ahead = if done == 0 { ahead } else { Ahead::NONE };
        let first = chain == 0;
        if L::ACROSS == ACROSS || rows <= L::ROWS_OF_TWO {
            with_rows!(
                rows,
                L::ROWS,
                add_chains::<L, S; R, 2>(l, weights, x, height, ahead, sums, 0, first)
            );
        } else {
            with_rows!(
                rows,
                L::ROWS,
                add_chains::<L, S; R, 1>(l, weights, x, height, ahead, sums, 0, first)
            );
            with_rows!(
                rows,
                L::ROWS,
                add_chains::<L, S::Second; R, 1>(l, weights, x, height, Ahead::NONE, sums, 1, first)
            );
        }
        done += rows;
    }
}

/// Chains from zero over one stretch of inputs, added to the sums of the stretches before.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "an inlined part of one kernel")]
fn add_chains<L: Lanes, S: Stored, const R: usize, const N: usize>(
    l: L,
    weights: &[Line],
    x: &[f32],
    height: usize,
    ahead: Ahead,
    sums: &mut [[Line; ACROSS]],
    vector: usize,
    first: bool,
) {
    let mut acc = [[l.splat(0.0); N]; R];
    chains::<L, S, R, N, ASKED>(l, weights, S::LINES, x, height, ahead, &mut acc);
    for (sum, acc) in sums.iter_mut().zip(acc) {
        for (line, acc) in sum[vector..].iter_mut().zip(acc) {
            let y = if first { acc } else { l.add(l.load(&line.0), acc) };
            l.store(y, &mut line.0);
        }
    }
}

#[cfg(test)]
mod tests;
