//! Linear layers: packed weights, read once for all rows.
//!
//! Weights lie in panels of 32 outputs, k upwards. An output is defined as the sum, in order, of one chain
//! of fused multiply-adds for each 128 inputs, plus the bias; partial sums of this length keep rounding
//! errors as small as those of a numerical library. The definition does not mention batches, tiles, threads
//! or vectors. For weights that are integers see `ops::integers`.
//!
//! General-purpose matrix products (`matrixmultiply`, `gemm`, `rten-gemm`) choose block sizes and fused or
//! separate multiply-adds by shape and machine, so their bits change with the batch, and none of them reads
//! the weights at the speed of memory with few rows. This kernel serves a decode step and a prefill.

mod chains;
mod pairs;

use super::activations::Activation;
use super::bfloat16;
use super::converted::Converted;
use super::integers;
use super::panel::{Operands, Panel, Sums};
use super::row_blocks::{BLOCK_ROWS, RowBlocks, interleave};
use super::run::Run;
use crate::weights::{ACROSS, Format, Matrix, PANEL, Vector};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};
use std::ops::Range;

/// A linear layer: where its parameters lie.
#[derive(Debug)]
pub(crate) struct Linear {
    pub matrix: Matrix,
    pub bias: Vector,
}

/// Where the outputs of a linear layer go.
pub(crate) enum Output<'a> {
    /// To `rows[row * outputs + output]`.
    Rows(&'a mut [f32]),
    /// Added to `rows[row * outputs + output]`.
    Add(&'a mut [f32]),
    /// Through an activation, as row blocks for the next linear layer.
    Activated(Activation, &'a mut [f32]),
    /// As row blocks, for a matrix whose panels have [`GATES`] gates each and then as many other outputs:
    /// the gates go through the activation and are multiplied with the others. The last panel may have more
    /// of both than are used.
    Gated(Activation, &'a mut [f32]),
}

/// Gates of a panel whose output is [`Output::Gated`].
pub(crate) const GATES: usize = LANES;

/// [`Output`], shared by the tasks of a phase.
#[derive(Clone, Copy)]
struct Target<'a, 'b> {
    kind: Kind,
    /// Floats of a row.
    width: usize,
    to: &'a DisjointSlice<'b, f32>,
}

#[derive(Clone, Copy)]
enum Kind {
    Rows,
    Add,
    Activated(Activation),
    Gated(Activation),
}

impl Linear {
    /// Applies the layer to `x`, in row blocks.
    ///
    /// # Panics
    /// If a slice has another size than the layer's inputs or outputs for these rows.
    pub fn apply(&self, run: &mut Run<'_>, blocks: RowBlocks, x: &[f32], output: Output<'_>) {
        let matrix = run.weights.matrix(&self.matrix);
        let operands = Operands { matrix, bias: run.weights.vector(&self.bias) };
        apply(operands, run.level, &mut run.session, blocks, x, run.converted, output);
    }
}

fn apply(
    operands: Operands<'_>,
    level: Level,
    session: &mut Session<'_>,
    blocks: RowBlocks,
    x: &[f32],
    converted: &mut Converted,
    output: Output<'_>,
) {
    let matrix = operands.matrix;
    let panels = matrix.outputs.div_ceil(PANEL);
    let lines = matrix.format.panel_lines(matrix.inputs);
    assert_eq!(matrix.weights.len(), panels * lines);
    assert_eq!(operands.bias.len(), panels * ACROSS);
    assert_eq!(x.len(), blocks.rows() * matrix.inputs);
    assert_eq!(matrix.scales.len(), panels * matrix.format.scales());
    converted.fill(matrix.format, level, session, blocks, x, matrix.inputs);
    let converted = &*converted;
    let (kind, to) = match output {
        Output::Rows(to) => (Kind::Rows, to),
        Output::Add(to) => (Kind::Add, to),
        Output::Activated(activation, to) => (Kind::Activated(activation), to),
        Output::Gated(activation, to) => (Kind::Gated(activation), to),
    };
    let width = to.len() / blocks.rows();
    let outputs = match kind {
        Kind::Gated(_) => width.div_ceil(GATES) * PANEL,
        _ => width,
    };
    assert_eq!((outputs, to.len()), (matrix.outputs, blocks.rows() * width));
    let target = Target { kind, width, to: &DisjointSlice::new(to) };
    // No larger than necessary: clearing the sums of several row blocks costs time.
    let through = if blocks.count() == 1 { through::<1> } else { through::<TOGETHER> };
    session.run(panels, |index| {
        let weights = &matrix.weights[index * lines..(index + 1) * lines];
        let panel = Panel { operands: &operands, index, weights };
        through(level, panel, blocks, x, converted, target);
    });
}

/// Row blocks that go together through each stretch of a panel: the stretch is then in the cache, and each
/// of them prefetches its share of the next one. With several rows the processor's own prefetcher does not
/// keep up.
const TOGETHER: usize = 4;

/// All rows through one panel.
///
/// The sums and their output are separate kernels: in one function the compiler would reload the constants
/// of the activation in the innermost loop.
fn through<const MOST: usize>(
    level: Level,
    panel: Panel<'_>,
    blocks: RowBlocks,
    x: &[f32],
    converted: &Converted,
    target: Target<'_, '_>,
) {
    let mut sums = [[[Line::ZERO; ACROSS]; BLOCK_ROWS]; MOST];
    for first in (0..blocks.count()).step_by(MOST) {
        let group = first..blocks.count().min(first + MOST);
        let sums = &mut sums[..group.len()];
        let of = group.clone();
        match panel.operands.matrix.format {
            Format::Float32 => chains::float32(level, panel, blocks, of, x, sums),
            Format::BFloat16 => match converted.rounded.operands(level) {
                bfloat16::Operands::Words(instruction, x) => {
                    pairs::by_instruction(instruction, panel, blocks, of, x, sums);
                }
                bfloat16::Operands::Floats(x) => {
                    pairs::by_multiply_adds(level, panel, blocks, of, x, sums);
                }
            },
            Format::BFloat16Weights => {
                pairs::by_multiply_adds(level, panel, blocks, of, x, sums);
            }
            Format::Int8 => integers::int8(level, panel, blocks, of, &converted.quantised, sums),
            Format::Int4 => integers::int4(level, panel, blocks, of, &converted.quantised, sums),
            Format::Int4Offsets => {
                integers::int4_offsets(level, panel, blocks, of, &converted.quantised, sums);
            }
            Format::Int8Groups => {
                integers::int8_groups(level, panel, blocks, of, &converted.quantised, sums);
            }
        }
        for (block, sums) in group.zip(sums) {
            finish(level, panel, blocks.range(block), sums, target);
        }
    }
}

kernel! {
    /// Applies scales and biases to the sums of one panel and one row block, and writes them out.
    fn finish(
        panel: Panel<'_>, rows: Range<usize>, sums: &mut Sums, target: Target<'_, '_>
    ) = finish_body;
}

#[inline(always)]
fn finish_body<L: Lanes>(
    l: L,
    panel: Panel<'_>,
    rows: Range<usize>,
    sums: &mut Sums,
    target: Target<'_, '_>,
) {
    let Panel { operands, index, .. } = panel;
    let matrix = &operands.matrix;
    let height = rows.len();
    let sums = &mut sums[..height];
    let of = |lines: &[Line], n: usize| l.load(&lines[index * ACROSS + n].0);
    let bias = [of(operands.bias, 0), of(operands.bias, 1)];
    let scales = match matrix.format {
        Format::Int8 => Some([of(matrix.scales, 0), of(matrix.scales, 1)]),
        _ => None,
    };
    for sum in sums.iter_mut() {
        for (n, line) in sum.iter_mut().enumerate() {
            let y = l.load(&line.0);
            let y = match scales {
                Some(scales) => l.fma(y, scales[n], bias[n]),
                None => l.add(y, bias[n]),
            };
            let y = match target.kind {
                Kind::Activated(activation) => activation.apply(l, y),
                Kind::Gated(activation) if n == 0 => activation.apply(l, y),
                _ => y,
            };
            l.store(y, &mut line.0);
        }
        if let Kind::Gated(_) = target.kind {
            let y = l.mul(l.load(&sum[0].0), l.load(&sum[1].0));
            l.store(y, &mut sum[0].0);
        }
    }
    let most = if let Kind::Gated(_) = target.kind { GATES } else { PANEL };
    let first = index * most;
    let width = most.min(target.width - first);
    let out = target.to;
    match target.kind {
        Kind::Rows | Kind::Add => {
            let add = matches!(target.kind, Kind::Add);
            for (row, sum) in rows.zip(sums) {
                // SAFETY: these outputs belong to this panel, and the panel to this task alone.
                let to = unsafe { out.part(place(row, matrix.outputs, first, width)) };
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
        Kind::Activated(_) | Kind::Gated(_) => {
            let start = rows.start * target.width + first * height;
            // SAFETY: as above; in a row block, the rows of an output lie together.
            let to = unsafe { out.part(start..start + width * height) };
            // Interleaved here and copied in whole lines: the destination is at first in the cache of the
            // thread that read it last, and only few single stores can wait for it at once.
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

#[cfg(test)]
mod tests;
