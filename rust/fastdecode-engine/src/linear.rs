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
use crate::dtype::{ACROSS, CHAIN, Dtype, PANEL};
use crate::integers;
use crate::lanes::{LANES, Lanes, Line, kernel};
use crate::math::gelu;
use crate::parts::Parts;
use crate::pool::Session;
use crate::quantise::Quantised;
use crate::tile::{Floats, Halves, Stored, chains, with_rows};
use fastdecode_core::Level;
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
    Rows(&'a Parts<'b, f32>),
    /// Added there.
    Add(&'a Parts<'b, f32>),
    /// Through GELU, as blocks for the next layer.
    Gelu(&'a Parts<'b, f32>),
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
        assert!(out.holds(blocks.rows() * self.outputs));
        if self.dtype == Dtype::Int8 {
            assert_eq!(self.scales.len(), panels * ACROSS);
            integers.fill(level, session, blocks, x, self.inputs);
        }
        let threads = session.threads();
        session.run(panels, |index| {
            // The panel that this thread will most likely have next: claims go downwards.
            let next = index.checked_sub(threads).unwrap_or(index);
            let panel = Panel {
                linear: self,
                index,
                weights: &self.weights[index * lines..(index + 1) * lines],
                next: &self.weights[next * lines..(next + 1) * lines],
            };
            match self.dtype {
                Dtype::Float32 => float32(level, panel, blocks, x, output),
                Dtype::BFloat16 => bfloat16(level, panel, blocks, x, output),
                Dtype::Int8 => integers::panel(level, panel, blocks, integers, output),
            }
        });
    }
}

/// One panel of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub linear: &'a Linear<'a>,
    pub index: usize,
    pub weights: &'a [Line],
    /// Those of the panel that will be needed next.
    pub next: &'a [Line],
}

kernel! {
    /// All rows through one panel.
    fn float32(panel: Panel<'_>, blocks: Blocks, x: &[f32], output: Output<'_, '_>)
        = panel_body::<_, Floats<0>>;
}

kernel! {
    /// The same for weights in bfloat16, which are widened as they are read.
    fn bfloat16(panel: Panel<'_>, blocks: Blocks, x: &[f32], output: Output<'_, '_>)
        = panel_body::<_, Halves<0>>;
}

/// Blocks of rows that go together through each stretch of a panel, which they have in the cache, and
/// each asks for its share of the next one. Left to the processor, which fetches well for one row
/// and not for eight, the arithmetic of a step of eight rows came on top of the reading: 19 ms
/// instead of 16.
const TOGETHER: usize = 4;

#[inline(always)]
fn panel_body<L: Lanes, S: Stored>(
    l: L,
    panel: Panel<'_>,
    blocks: Blocks,
    x: &[f32],
    output: Output<'_, '_>,
) {
    let inputs = panel.linear.inputs;
    let (weights, next) = (panel.weights, panel.next);
    let mut sums = [[[Line::ZERO; ACROSS]; BLOCK_ROWS]; TOGETHER];
    for group in (0..blocks.count()).step_by(TOGETHER) {
        let count = TOGETHER.min(blocks.count() - group);
        for chain in 0..inputs.div_ceil(CHAIN) {
            let stretch = chain * CHAIN..inputs.min((chain + 1) * CHAIN);
            let lines = |weights: &'_ [Line], chain: usize| -> std::ops::Range<usize> {
                let end = weights.len().min((chain + 1) * CHAIN * S::LINES);
                chain * CHAIN * S::LINES..end
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
                let part = |i: usize| i * ahead.len() / count;
                let ahead = &ahead[part(i)..part(i + 1)];
                products::<L, S>(l, now, x, height, ahead, chain, &mut sums[..height]);
            }
        }
        for (i, sums) in sums[..count].iter_mut().enumerate() {
            let rows = blocks.range(group + i);
            give(l, panel, rows.clone(), &mut sums[..rows.len()], output);
        }
    }
}

/// The sums of one panel and one block of rows, with their bias, to where they go.
#[inline(always)]
pub(crate) fn give<L: Lanes>(
    l: L,
    panel: Panel<'_>,
    rows: Range<usize>,
    sums: &mut [[Line; ACROSS]],
    output: Output<'_, '_>,
) {
    let Panel { linear, index, .. } = panel;
    {
        let height = rows.len();
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
fn products<L: Lanes, S: Stored>(
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
        let first = chain == 0;
        if L::ACROSS == ACROSS || rows <= L::ROWS / 2 {
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
                add_chains::<L, S::Second; R, 1>(l, weights, x, height, &[], sums, 1, first)
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
    ahead: &[Line],
    sums: &mut [[Line; ACROSS]],
    vector: usize,
    first: bool,
) {
    let mut acc = [[l.splat(0.0); N]; R];
    chains::<L, S, R, N>(l, weights, S::LINES, x, height, ahead, &mut acc);
    for (sum, acc) in sums.iter_mut().zip(acc) {
        for (line, acc) in sum[vector..].iter_mut().zip(acc) {
            let y = if first { acc } else { l.add(l.load(&line.0), acc) };
            l.store(y, &mut line.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Linear, Output};
    use crate::blocks::Blocks;
    use crate::dtype::{ACROSS, CHAIN, Dtype, PANEL, pack, read, scale_of};
    use crate::lanes::Line;
    use crate::parts::Parts;
    use crate::pool::Pool;
    use crate::quantise::Quantised;
    use fastdecode_core::Level;
    use fastdecode_core::philox::philox4x32;
    use proptest::prelude::*;

    struct Layer {
        dtype: Dtype,
        inputs: usize,
        outputs: usize,
        weights: Vec<Line>,
        scales: Vec<Line>,
        bias: Vec<Line>,
    }

    fn noise(i: usize, stream: u32) -> f32 {
        (philox4x32([i as u32, stream, 0, 0], [3, 4])[0] >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    impl Layer {
        fn new(dtype: Dtype, inputs: usize, outputs: usize) -> Self {
            let panels = outputs.div_ceil(PANEL);
            let size = dtype.panel_lines(inputs);
            let mut weights = vec![Line::ZERO; panels * size];
            let mut scales = vec![Line::ZERO; panels * ACROSS];
            for (panel, (to, scales)) in
                weights.chunks_mut(size).zip(scales.chunks_mut(ACROSS)).enumerate()
            {
                let x: Vec<f32> = (0..inputs * PANEL).map(|i| noise(i, panel as u32)).collect();
                pack(dtype, &x, to, scales);
            }
            let bias = (0..panels * ACROSS)
                .map(|line| Line(std::array::from_fn(|i| noise(line * 16 + i, 1000))))
                .collect();
            Self { dtype, inputs, outputs, weights, scales, bias }
        }

        fn run(&self, level: Level, threads: usize, x: &[f32], rows: usize) -> Vec<f32> {
            let blocks = Blocks::new(rows);
            let mut packed = vec![0.0; rows * self.inputs];
            for block in 0..blocks.count() {
                let range = blocks.range(block);
                for row in range.clone() {
                    for k in 0..self.inputs {
                        let at = range.start * self.inputs + k * range.len() + row - range.start;
                        packed[at] = x[row * self.inputs + k];
                    }
                }
            }
            let linear = Linear {
                dtype: self.dtype,
                weights: &self.weights,
                scales: if self.dtype == Dtype::Int8 { &self.scales } else { &[] },
                bias: &self.bias,
                inputs: self.inputs,
                outputs: self.outputs,
            };
            let mut y = vec![0.0; rows * self.outputs];
            let parts = Parts::new(&mut y);
            let pool = Pool::new(threads);
            let integers = &mut Quantised::default();
            let to = Output::Rows(&parts);
            linear.apply(level, &mut pool.session(), blocks, &packed, integers, to);
            y
        }

        /// One output as it is defined, step by step.
        fn plain(&self, x: &[f32], output: usize) -> f32 {
            let size = self.dtype.panel_lines(self.inputs);
            let (panel, lane) = (output / PANEL, output % PANEL);
            let lines = &self.weights[panel * size..(panel + 1) * size];
            let scales = &self.scales[panel * ACROSS..(panel + 1) * ACROSS];
            let ones = [Line([1.0; 16]); ACROSS];
            let bias = self.bias[output / 16].0[output % 16];
            let mut sum = 0.0f32;
            for (stretch, x) in x.chunks(CHAIN).enumerate() {
                let first = stretch * CHAIN;
                if self.dtype == Dtype::Int8 {
                    let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                    let (scale, inverse) = scale_of(largest);
                    let dot: i64 = x
                        .iter()
                        .enumerate()
                        .map(|(i, x)| {
                            let w = read(self.dtype, lines, &ones, first + i, lane) as i64;
                            w * (x * inverse).round_ties_even() as i64
                        })
                        .sum();
                    sum = (dot as f32).mul_add(scale, sum);
                } else {
                    let chain = x.iter().enumerate().fold(0.0f32, |sum, (i, x)| {
                        x.mul_add(read(self.dtype, lines, scales, first + i, lane), sum)
                    });
                    sum = if stretch == 0 { chain } else { sum + chain };
                }
            }
            if self.dtype == Dtype::Int8 {
                sum.mul_add(scales[lane / 16].0[lane % 16], bias)
            } else {
                sum + bias
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_level_and_number_of_threads_gives_the_bits_of_the_definition(
            rows in 1usize..64,
            inputs in 1usize..400,
            outputs in 1usize..80,
            dtype in prop::sample::select(Dtype::ALL.to_vec()),
        ) {
            let layer = Layer::new(dtype, inputs, outputs);
            let x: Vec<f32> = (0..rows * inputs).map(|i| noise(i, 2000) * 3.0).collect();
            let expected: Vec<u32> = x
                .chunks(inputs)
                .flat_map(|x| (0..outputs).map(|output| layer.plain(x, output).to_bits()))
                .collect();
            for level in Level::available() {
                for threads in [1, 2] {
                    let found = layer.run(level, threads, &x, rows);
                    let found: Vec<u32> = found.into_iter().map(f32::to_bits).collect();
                    prop_assert_eq!(&found, &expected, "{:?}", level);
                }
            }
        }
    }

    #[test]
    fn integers_at_their_ends_do_not_overflow() {
        for level in Level::available() {
            for sign in [1.0, -1.0] {
                let (inputs, outputs) = (3072, 32);
                let mut layer = Layer::new(Dtype::Int8, inputs, outputs);
                pack(
                    Dtype::Int8,
                    &vec![sign; inputs * PANEL],
                    &mut layer.weights,
                    &mut layer.scales,
                );
                layer.bias.fill(Line::ZERO);
                let y = layer.run(level, 1, &vec![-2.0; inputs], 1);
                assert!(y.iter().all(|y| (y / (-2.0 * sign * 3072.0) - 1.0).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_its_own_row() {
        for level in Level::available() {
            for dtype in Dtype::ALL {
                for bad in [f32::NAN, f32::INFINITY] {
                    let (rows, inputs) = (14, 130);
                    let layer = Layer::new(dtype, inputs, 40);
                    let mut x: Vec<f32> = (0..rows * inputs).map(|i| noise(i, 5)).collect();
                    x[5 * inputs + 129] = bad;
                    let y = layer.run(level, 2, &x, rows);
                    for (row, y) in y.chunks(40).enumerate() {
                        assert!(y.iter().all(|y| y.is_finite() == (row != 5)), "{dtype:?} {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn values_too_small_for_a_scale_are_zeros() {
        let layer = Layer::new(Dtype::Int8, 40, 32);
        let y = layer.run(Level::detect(), 1, &[1e-38; 40], 1);
        assert_eq!(y, layer.bias.iter().flat_map(|line| line.0).collect::<Vec<_>>());
    }
}
