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

use crate::blocks::{BLOCK_ROWS, Blocks};
use crate::lanes::{LANES, Lanes, Line, kernel};
use crate::math::gelu;
use crate::parts::Parts;
use crate::pool::Session;
use crate::tile::{chains, with_rows};
use fastdecode_core::Level;
use std::ops::Range;

/// Vectors in a panel.
const ACROSS: usize = 2;
/// Outputs of a panel.
pub const PANEL: usize = ACROSS * LANES;
/// Inputs of one chain.
const CHAIN: usize = 128;

/// The weights and biases of a layer, borrowed from where they are kept.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// `outputs` rounded up to panels, of `2 * inputs` lines each.
    pub weights: &'a [Line],
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
    Rows(&'a Parts<'b, f32>),
    /// Added there.
    Add(&'a Parts<'b, f32>),
    /// Through GELU, as blocks for the next layer.
    Gelu(&'a Parts<'b, f32>),
}

impl Linear<'_> {
    /// The layer applied to `x`, the blocks of the rows, `inputs` wide.
    ///
    /// # Panics
    /// Where a slice has another size than it should.
    pub fn apply(
        &self,
        level: Level,
        session: &mut Session<'_>,
        blocks: Blocks,
        x: &[f32],
        output: Output<'_, '_>,
    ) {
        let (Output::Rows(out) | Output::Add(out) | Output::Gelu(out)) = output;
        let panels = self.outputs.div_ceil(PANEL);
        assert_eq!(self.weights.len(), panels * ACROSS * self.inputs);
        assert_eq!(self.bias.len(), panels * ACROSS);
        assert_eq!(x.len(), blocks.rows() * self.inputs);
        assert!(out.holds(blocks.rows() * self.outputs));
        let threads = session.threads();
        session.run(panels, |index| {
            // The panel that this thread will most likely have next: claims go downwards.
            let next = index.checked_sub(threads).unwrap_or(index);
            panel(level, self, [index, next], blocks, x, output);
        });
    }
}

kernel! {
    /// All rows through one panel.
    fn panel(linear: &Linear<'_>, panels: [usize; 2], blocks: Blocks, x: &[f32], output: Output<'_, '_>)
        = panel_body;
}

/// Blocks of rows that go together through each stretch of a panel: while the first waits for the
/// memory, as one row does, the others have the stretch in the cache and fetch the next one.
const TOGETHER: usize = 4;

#[inline(always)]
fn panel_body<L: Lanes>(
    l: L,
    linear: &Linear<'_>,
    panels: [usize; 2],
    blocks: Blocks,
    x: &[f32],
    output: Output<'_, '_>,
) {
    let inputs = linear.inputs;
    let [weights, next] =
        panels.map(|index| &linear.weights[index * ACROSS * inputs..(index + 1) * ACROSS * inputs]);
    let mut sums = [[[Line::ZERO; ACROSS]; BLOCK_ROWS]; TOGETHER];
    for group in (0..blocks.count()).step_by(TOGETHER) {
        let count = TOGETHER.min(blocks.count() - group);
        for chain in 0..inputs.div_ceil(CHAIN) {
            let stretch = chain * CHAIN..inputs.min((chain + 1) * CHAIN);
            let lines = |weights: &'_ [Line], chain: usize| -> std::ops::Range<usize> {
                let end = weights.len().min((chain + 1) * CHAIN * ACROSS);
                chain * CHAIN * ACROSS..end
            };
            let now = &weights[lines(weights, chain)];
            let ahead = if stretch.end < inputs {
                &weights[lines(weights, chain + 1)]
            } else {
                &next[lines(next, 0)]
            };
            for (i, sums) in sums[..count].iter_mut().enumerate() {
                let rows = blocks.range(group + i);
                let height = rows.len();
                let x = &x[rows.start * inputs..rows.end * inputs]
                    [stretch.start * height..stretch.end * height];
                let ahead = if i == 0 {
                    &[]
                } else {
                    let part = |i: usize| i * ahead.len() / (count - 1);
                    &ahead[part(i - 1)..part(i)]
                };
                products(l, now, x, height, ahead, chain, &mut sums[..height]);
            }
        }
        for (i, sums) in sums[..count].iter_mut().enumerate() {
            let rows = blocks.range(group + i);
            give(l, linear, panels[0], rows.clone(), &mut sums[..rows.len()], output);
        }
    }
}

/// The sums of one panel and one block of rows, with their bias, to where they go.
#[inline(always)]
fn give<L: Lanes>(
    l: L,
    linear: &Linear<'_>,
    index: usize,
    rows: Range<usize>,
    sums: &mut [[Line; ACROSS]],
    output: Output<'_, '_>,
) {
    {
        let height = rows.len();
        let bias =
            [l.load(&linear.bias[index * ACROSS].0), l.load(&linear.bias[index * ACROSS + 1].0)];
        for sum in sums.iter_mut() {
            for (line, bias) in sum.iter_mut().zip(bias) {
                let y = l.add(l.load(&line.0), bias);
                let y = if let Output::Gelu(_) = output { gelu(l, y) } else { y };
                l.store(y, &mut line.0);
            }
        }
        let first = index * PANEL;
        let width = PANEL.min(linear.outputs - first);
        match output {
            Output::Rows(out) => {
                for (row, sum) in rows.zip(sums) {
                    // SAFETY: these outputs belong to this panel, which is this task's alone.
                    let to = unsafe { out.part(place(row, linear.outputs, first, width)) };
                    to.copy_from_slice(&flat(sum)[..width]);
                }
            }
            Output::Add(out) => {
                for (row, sum) in rows.zip(sums) {
                    // SAFETY: as above.
                    let to = unsafe { out.part(place(row, linear.outputs, first, width)) };
                    for (to, y) in to.iter_mut().zip(flat(sum)) {
                        *to += y;
                    }
                }
            }
            Output::Gelu(out) => {
                let start = rows.start * linear.outputs + first * height;
                // SAFETY: as above; in a block, the rows of an output lie together.
                let to = unsafe { out.part(start..start + width * height) };
                for (j, to) in to.chunks_exact_mut(height).enumerate() {
                    for (to, sum) in to.iter_mut().zip(sums.iter()) {
                        *to = sum[j / LANES].0[j % LANES];
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn place(row: usize, outputs: usize, first: usize, width: usize) -> std::ops::Range<usize> {
    row * outputs + first..row * outputs + first + width
}

#[inline(always)]
fn flat(lines: &[Line; ACROSS]) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    for (to, line) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(lines) {
        *to = line.0;
    }
    out
}

/// One stretch of a panel, at most a chain long, with one block of rows.
#[inline(always)]
fn products<L: Lanes>(
    l: L,
    weights: &[Line],
    x: &[f32],
    height: usize,
    ahead: &[Line],
    chain: usize,
    sums: &mut [[Line; ACROSS]],
) {
    let mut done = 0;
    while done < height {
        let rows = (height - done).min(L::ROWS);
        let sums = &mut sums[done..done + rows];
        let x = &x[done..];
        let ahead = if done == 0 { ahead } else { &[] };
        if L::ACROSS == ACROSS || rows <= L::ROWS / 2 {
            with_rows!(
                rows,
                L::ROWS,
                add_chains::<L, R, 2>(l, weights, x, height, ahead, sums, 0, chain)
            );
        } else {
            for vector in 0..ACROSS {
                let weights = &weights[vector..];
                let ahead = if vector == 0 { ahead } else { &[] };
                with_rows!(
                    rows,
                    L::ROWS,
                    add_chains::<L, R, 1>(l, weights, x, height, ahead, sums, vector, chain)
                );
            }
        }
        done += rows;
    }
}

/// Chains from zero over one stretch of inputs, added to the sums of the stretches before.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "an inlined part of one kernel")]
fn add_chains<L: Lanes, const R: usize, const N: usize>(
    l: L,
    weights: &[Line],
    x: &[f32],
    height: usize,
    ahead: &[Line],
    sums: &mut [[Line; ACROSS]],
    vector: usize,
    chain: usize,
) {
    let mut acc = [[l.splat(0.0); N]; R];
    chains::<L, R, N>(l, weights, ACROSS, x, height, ahead, &mut acc);
    for (sum, acc) in sums.iter_mut().zip(acc) {
        for (line, acc) in sum[vector..].iter_mut().zip(acc) {
            let y = if chain == 0 { acc } else { l.add(l.load(&line.0), acc) };
            l.store(y, &mut line.0);
        }
    }
}
