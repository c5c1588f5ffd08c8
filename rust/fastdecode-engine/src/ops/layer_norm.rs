//! Layer norm, from rows of the residual to row blocks for the next linear layer.

use super::row_blocks::{BLOCK_ROWS, RowBlocks, interleave};
use super::run::Run;
use crate::weights::Vector;
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};

/// A layer norm: where its parameters lie.
///
/// `gain * (x - mean) / sqrt(variance + epsilon) + bias`. Sums run in sixteen lanes, element i in lane
/// i mod 16, and the lanes are added by one tree.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub gain: Vector,
    pub bias: Vector,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The parameters, borrowed.
#[derive(Clone, Copy)]
struct Operands<'a> {
    gain: &'a [Line],
    bias: &'a [Line],
    epsilon: f32,
}

impl LayerNorm {
    /// Normalises the rows of `x`, `width` wide, into the row blocks `to`.
    ///
    /// # Panics
    /// If a slice has another size.
    pub fn apply(
        &self,
        run: &mut Run<'_>,
        blocks: RowBlocks,
        x: &[f32],
        width: usize,
        to: &mut [f32],
    ) {
        let [gain, bias] = [&self.gain, &self.bias].map(|vector| run.weights.vector(vector));
        let operands = Operands { gain, bias, epsilon: self.epsilon };
        apply(operands, run.level, &mut run.session, blocks, x, width, to);
    }
}

fn apply(
    operands: Operands<'_>,
    level: Level,
    session: &mut Session<'_>,
    blocks: RowBlocks,
    x: &[f32],
    width: usize,
    to: &mut [f32],
) {
    assert_eq!(x.len(), blocks.rows() * width);
    assert_eq!(to.len(), blocks.rows() * width);
    let lines = width.div_ceil(LANES);
    // The rows of a row block share cache lines, so threads divide a row block by columns.
    let parts = if blocks.rows() < 2 { 1 } else { session.threads().min(lines) };
    let to = DisjointSlice::new(to);
    session.run(blocks.count() * parts, |task| {
        let (block, part) = (task / parts, task % parts);
        let columns = [part * lines / parts, (part + 1) * lines / parts];
        let rows = blocks.range(block);
        let from = &x[rows.start * width..rows.end * width];
        let height = rows.len();
        let place = |line: usize| rows.start * width + (line * LANES).min(width) * height;
        // SAFETY: these columns of this row block belong to this task alone.
        let to = unsafe { to.part(place(columns[0])..place(columns[1])) };
        normalise(level, operands, from, height, columns, to);
    });
}

kernel! {
    /// Columns, in lines, of one row block.
    fn normalise(operands: Operands<'_>, x: &[f32], height: usize, columns: [usize; 2], to: &mut [f32])
        = normalise_body;
}

#[inline(always)]
fn normalise_body<L: Lanes>(
    l: L,
    operands: Operands<'_>,
    x: &[f32],
    height: usize,
    columns: [usize; 2],
    to: &mut [f32],
) {
    let width = x.len() / height;
    let mut moments = [(0.0, 0.0); BLOCK_ROWS];
    for (moments, row) in moments.iter_mut().zip(x.chunks_exact(width)) {
        *moments = mean_and_scale(l, row, operands.epsilon);
    }
    for line in columns[0]..columns[1] {
        let first = line * LANES;
        let used = LANES.min(width - first);
        let (gain, bias) = (l.load(&operands.gain[line].0), l.load(&operands.bias[line].0));
        let mut out = [[Line::ZERO]; BLOCK_ROWS];
        for (([out], (mean, scale)), row) in out.iter_mut().zip(moments).zip(x.chunks_exact(width))
        {
            let row = l.load(&filled(&row[first..first + used]));
            let y = l.mul(l.sub(row, l.splat(mean)), l.splat(scale));
            l.store(l.fma(y, gain, bias), &mut out.0);
        }
        let start = (line - columns[0]) * LANES * height;
        interleave(l, &out[..height], 0, &mut to[start..start + used * height]);
    }
}

/// The mean of a row, and 1 / sqrt(variance + epsilon).
#[inline(always)]
fn mean_and_scale<L: Lanes>(l: L, row: &[f32], epsilon: f32) -> (f32, f32) {
    let width = row.len() as f32;
    let (lines, rest) = row.as_chunks::<LANES>();
    let mut sum = l.splat(0.0);
    for line in lines {
        sum = l.add(sum, l.load(line));
    }
    sum = l.add(sum, l.load(&filled(rest)));
    let mean = l.sum(sum) / width;
    let mut squares = l.splat(0.0);
    for line in lines {
        let deviation = l.sub(l.load(line), l.splat(mean));
        squares = l.fma(deviation, deviation, squares);
    }
    // Lanes beyond the row have no deviation.
    let mut last = [mean; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let deviation = l.sub(l.load(&last), l.splat(mean));
    squares = l.fma(deviation, deviation, squares);
    (mean, 1.0 / (l.sum(squares) / width + epsilon).sqrt())
}

#[inline(always)]
fn filled(part: &[f32]) -> [f32; LANES] {
    if let Ok(whole) = part.try_into() {
        return whole;
    }
    let mut line = [0.0; LANES];
    line[..part.len()].copy_from_slice(part);
    line
}

#[cfg(test)]
mod tests {
    use super::{Operands, apply};
    use crate::ops::row_blocks::RowBlocks;
    use fastdecode_simd::{Level, Line, Pool};

    #[test]
    fn close_to_float64_and_equal_everywhere() {
        for (rows, width) in [(1usize, 5usize), (2, 16), (7, 40), (13, 192), (25, 33)] {
            let x: Vec<f32> =
                (0..rows * width).map(|i| ((i * 7919) % 1013) as f32 * 0.01 - 4.0).collect();
            let line = |scale: f32| -> Vec<Line> {
                (0..width.div_ceil(16))
                    .map(|l| Line(std::array::from_fn(|i| (l * 16 + i) as f32 * scale + 0.5)))
                    .collect()
            };
            let (gain, bias) = (line(0.01), line(-0.02));
            let operands = Operands { gain: &gain, bias: &bias, epsilon: 1e-5 };
            let blocks = RowBlocks::new(rows);
            let mut first: Option<Vec<f32>> = None;
            for level in Level::available() {
                for threads in [1, 2, 3] {
                    let mut to = vec![0.0; rows * width];
                    let pool = Pool::new();
                    apply(operands, level, &mut pool.session(threads), blocks, &x, width, &mut to);
                    assert_eq!(first.get_or_insert_with(|| to.clone()), &to);
                }
            }
            let got = first.unwrap();
            for block in 0..blocks.count() {
                let range = blocks.range(block);
                for row in range.clone() {
                    let values: Vec<f64> =
                        x[row * width..][..width].iter().map(|&v| f64::from(v)).collect();
                    let mean = values.iter().sum::<f64>() / width as f64;
                    let variance =
                        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    for (k, value) in values.iter().enumerate() {
                        let y = (value - mean) / (variance + 1e-5).sqrt();
                        let exact = y * (k as f64 * 0.01 + 0.5) + (k as f64 * -0.02 + 0.5);
                        let at = range.start * width + k * range.len() + row - range.start;
                        assert!((f64::from(got[at]) - exact).abs() < 1e-5 * (1.0 + exact.abs()));
                    }
                }
            }
        }
    }
}
