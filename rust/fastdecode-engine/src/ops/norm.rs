//! Layer norm and RMS norm, from rows of the residual to row blocks for the next linear layer.

use super::row_blocks::{BLOCK_ROWS, RowBlocks, interleave};
use super::run::Run;
use crate::weights::{Vector, Weights};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};

/// A norm: where its parameters lie.
///
/// With a bias it is a layer norm, `gain * (x - mean) / sqrt(variance + epsilon) + bias`; without one an RMS
/// norm, `gain * (x / sqrt(mean of x^2 + epsilon))`. Sums run in sixteen lanes, element i in lane i mod 16,
/// and the lanes are added by one tree.
#[derive(Debug)]
pub(crate) struct Norm {
    pub gain: Vector,
    pub bias: Option<Vector>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The parameters, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub gain: &'a [Line],
    pub bias: Option<&'a [Line]>,
    pub epsilon: f32,
}

impl Norm {
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
        let operands = self.operands(run.weights);
        apply(operands, run.level, &mut run.session, blocks, x, width, to);
    }

    /// Normalises the rows of `x`, `width` wide, and adds them to the rows of `to`.
    ///
    /// # Panics
    /// If a slice has another size.
    pub fn add(&self, run: &mut Run<'_>, x: &mut [f32], width: usize, to: &mut [f32]) {
        assert_eq!(x.len(), to.len());
        let (operands, level) = (self.operands(run.weights), run.level);
        let rows = to.len() / width;
        let (x, to) = (DisjointSlice::new(x), DisjointSlice::new(to));
        run.session.run(rows, |row| {
            let place = row * width..(row + 1) * width;
            // SAFETY: a row belongs to one task.
            let (x, to) = unsafe { (x.part(place.clone()), to.part(place)) };
            add_row(level, operands, x, to);
        });
    }

    /// The parameters in memory.
    pub fn operands<'a>(&self, weights: &'a Weights) -> Operands<'a> {
        Operands {
            gain: weights.vector(&self.gain),
            bias: self.bias.as_ref().map(|bias| weights.vector(bias)),
            epsilon: self.epsilon,
        }
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
        *moments = mean_and_scale(l, row, operands);
    }
    for line in columns[0]..columns[1] {
        let first = line * LANES;
        let used = LANES.min(width - first);
        let gain = l.load(&operands.gain[line].0);
        #[expect(clippy::manual_map, reason = "a closure might not be inlined into the kernel")]
        let bias = match operands.bias {
            Some(bias) => Some(l.load(&bias[line].0)),
            None => None,
        };
        let mut out = [[Line::ZERO]; BLOCK_ROWS];
        for (([out], (mean, scale)), row) in out.iter_mut().zip(moments).zip(x.chunks_exact(width))
        {
            let row = l.load(&filled(&row[first..first + used]));
            let y = l.mul(l.sub(row, l.splat(mean)), l.splat(scale));
            let y = match bias {
                Some(bias) => l.fma(y, gain, bias),
                None => l.mul(y, gain),
            };
            l.store(y, &mut out.0);
        }
        let start = (line - columns[0]) * LANES * height;
        interleave(l, &out[..height], 0, &mut to[start..start + used * height]);
    }
}

kernel! {
    fn add_row(operands: Operands<'_>, x: &mut [f32], to: &mut [f32]) = add_row_body;
}

#[inline(always)]
fn add_row_body<L: Lanes>(l: L, operands: Operands<'_>, x: &mut [f32], to: &mut [f32]) {
    normalise_row(l, operands, x);
    for (to, x) in to.iter_mut().zip(x) {
        *to += *x;
    }
}

/// Normalises one row in place.
#[inline(always)]
pub(crate) fn normalise_row<L: Lanes>(l: L, operands: Operands<'_>, row: &mut [f32]) {
    let (mean, scale) = mean_and_scale(l, row, operands);
    for (line, part) in row.chunks_mut(LANES).enumerate() {
        let gain = l.load(&operands.gain[line].0);
        let y = l.mul(l.sub(l.load(&filled(part)), l.splat(mean)), l.splat(scale));
        let y = match operands.bias {
            Some(bias) => l.fma(y, gain, l.load(&bias[line].0)),
            None => l.mul(y, gain),
        };
        let mut out = [0.0; LANES];
        l.store(y, &mut out);
        part.copy_from_slice(&out[..part.len()]);
    }
}

/// What is subtracted from each element of a row, and what it is then multiplied by: for a layer norm the
/// mean and 1 / sqrt(variance + epsilon), for an RMS norm 0 and 1 / sqrt(mean of squares + epsilon).
#[inline(always)]
fn mean_and_scale<L: Lanes>(l: L, row: &[f32], operands: Operands<'_>) -> (f32, f32) {
    let width = row.len() as f32;
    let (lines, rest) = row.as_chunks::<LANES>();
    let mut mean = 0.0;
    if operands.bias.is_some() {
        let mut sum = l.splat(0.0);
        for line in lines {
            sum = l.add(sum, l.load(line));
        }
        sum = l.add(sum, l.load(&filled(rest)));
        mean = l.sum(sum) / width;
    }
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
    (mean, 1.0 / (l.sum(squares) / width + operands.epsilon).sqrt())
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
    use super::{Operands, add_row, apply};
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
            for bias in [Some(bias.as_slice()), None] {
                let operands = Operands { gain: &gain, bias, epsilon: 1e-5 };
                check(operands, rows, width, &x);
            }
        }
    }

    fn check(operands: Operands<'_>, rows: usize, width: usize, x: &[f32]) {
        let blocks = RowBlocks::new(rows);
        let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
        for level in Level::available() {
            for threads in [1, 2, 3] {
                let mut to = vec![0.0; rows * width];
                let pool = Pool::new();
                apply(operands, level, &mut pool.session(threads), blocks, x, width, &mut to);
                let mut added = vec![0.0; rows * width];
                for (row, added) in x.chunks(width).zip(added.chunks_mut(width)) {
                    add_row(level, operands, &mut row.to_vec(), added);
                }
                let found = (to, added);
                assert_eq!(first.get_or_insert_with(|| found.clone()), &found);
            }
        }
        let (got, added) = first.unwrap();
        for block in 0..blocks.count() {
            let range = blocks.range(block);
            for row in range.clone() {
                let values: Vec<f64> =
                    x[row * width..][..width].iter().map(|&v| f64::from(v)).collect();
                let plain = operands.bias.is_none();
                let mean = values.iter().sum::<f64>() / width as f64;
                let mean = if plain { 0.0 } else { mean };
                let variance =
                    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                for (k, value) in values.iter().enumerate() {
                    let y = (value - mean) / (variance + 1e-5).sqrt();
                    let bias = if plain { 0.0 } else { k as f64 * -0.02 + 0.5 };
                    let exact = y * (k as f64 * 0.01 + 0.5) + bias;
                    let at = range.start * width + k * range.len() + row - range.start;
                    assert!((f64::from(got[at]) - exact).abs() < 1e-5 * (1.0 + exact.abs()));
                    assert_eq!(got[at], added[row * width + k]);
                }
            }
        }
    }
}
