//! Rotary position embeddings: pairs of a head's dimensions, turned by angles that grow with the position.
//!
//! The angle of pair i at position p is the float32 product of p and the pair's frequency, as transformers
//! computes it and models are trained with it. Its sine and cosine are computed in float64 by a fixed
//! sequence of operations, rounded to float32, and multiplied by the scale.

use super::pass_rows::PassRows;
use super::run::Run;
use fastdecode_simd::DisjointSlice;
use fastdecode_simd::math::trig::sin_cos;

/// The angles of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotary {
    /// Radians for each position, one for each pair of dimensions.
    pub frequencies: Vec<f32>,
    /// What sines and cosines are multiplied by.
    pub scale: f32,
}

/// Rows of a task: a few rows take less time than handing them to another thread.
const STRIP: usize = 16;

impl Rotary {
    /// Floats of one row of a table.
    pub fn width(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Writes the cosines and then the sines of each row.
    ///
    /// # Panics
    /// If `to` has another size.
    pub fn fill(&self, run: &mut Run<'_>, rows: &PassRows, to: &mut [f32]) {
        let width = self.width();
        assert_eq!(to.len(), rows.len() * width);
        let to = DisjointSlice::new(to);
        run.session.run(rows.len().div_ceil(STRIP), |task| {
            for row in task * STRIP..rows.len().min((task + 1) * STRIP) {
                // SAFETY: a row belongs to one task.
                let to = unsafe { to.part(row * width..(row + 1) * width) };
                self.fill_row(rows.position(row), to);
            }
        });
    }

    fn fill_row(&self, position: usize, to: &mut [f32]) {
        let (cosines, sines) = to.split_at_mut(self.frequencies.len());
        for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
            let (s, c) = sin_cos(f64::from(position as f32 * frequency));
            *cosine = c as f32 * self.scale;
            *sine = s as f32 * self.scale;
        }
    }
}

/// Turns the first dimensions of a head by a row of a table. Pair i is dimension i and the one that lies
/// half of the turned dimensions after it.
#[inline(always)]
pub(crate) fn turn(table: &[f32], x: &mut [f32]) {
    let half = table.len() / 2;
    let (cosines, sines) = table.split_at(half);
    let (first, second) = x[..2 * half].split_at_mut(half);
    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}
