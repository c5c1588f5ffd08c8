//! The first pass over a row: is it a row of logits, what is its maximum, and the maxima of its
//! groups, which tell every later pass where to look.

use crate::error::{Error, Result};
use crate::level::{Level, kernel};
use crate::sampler::Scratch;
use crate::weight::MAX_VOCABULARY;

/// Lanes of a chunk: one AVX-512 register of float32.
pub(crate) const LANES: usize = 16;

/// Logits under one entry of [`Tops`].
pub(crate) const SPAN: usize = 8 * LANES;

/// The maxima of a row's groups: entry `s`, lane `i` is the largest logit at `s * SPAN + i + 16 j`
/// for j < 8. A group goes across registers, so its maximum needs no shuffle.
pub(crate) type Tops = Vec<[f32; LANES]>;

/// Checks a row, fills `tops`, and returns the row's maximum, which is finite.
///
/// # Errors
/// NaN, +inf, an empty row, a row of -inf alone, or one beyond [`MAX_VOCABULARY`].
pub(crate) fn survey(level: Level, row: &[f32], tops: &mut Tops) -> Result<f32> {
    if row.is_empty() {
        return Err(Error::EmptyVocabulary);
    }
    if row.len() > MAX_VOCABULARY {
        return Err(Error::VocabularyTooLarge { size: row.len(), limit: MAX_VOCABULARY });
    }
    tops.resize(row.len().div_ceil(SPAN), [0.0; LANES]);
    let (max, suspicious) = maxima(level, row, tops);
    if suspicious && let Some(column) = row.iter().position(|&x| !is_logit(x)) {
        return Err(offence(row, column));
    }
    if max == f32::NEG_INFINITY {
        return Err(Error::NothingAllowed { row: 0 });
    }
    Ok(max)
}

/// The first token in the total order.
///
/// # Errors
/// NaN, +inf, an empty row, a row of -inf alone, or one beyond [`MAX_VOCABULARY`].
pub fn argmax(level: Level, row: &[f32], scratch: &mut Scratch) -> Result<u32> {
    let max = survey(level, row, &mut scratch.tops)?;
    Ok(first_equal(level, row, &scratch.tops, max) as u32)
}

kernel! {
    fn maxima(row: &[f32], tops: &mut [[f32; LANES]]) -> (f32, bool) = maxima_body;
}
kernel! {
    /// The first index at which `row` equals `value`, which is in it.
    pub(crate) fn first_equal(row: &[f32], tops: &[[f32; LANES]], value: f32) -> usize = first_equal_body;
}

/// Neither NaN nor +inf: one comparison, false for both.
#[inline(always)]
fn is_logit(x: f32) -> bool {
    x < f32::INFINITY
}

#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Fills `tops`; gives the maximum, and whether the row needs a closer look: a sum is NaN or +inf
/// wherever a summand is (and at worst where finite ones overflow). An addition costs nothing
/// beside a maximum, a second comparison would.
#[inline(always)]
fn maxima_body(row: &[f32], tops: &mut [[f32; LANES]]) -> (f32, bool) {
    // Two of each, so that they need not wait for each other.
    let mut sums = [[0.0f32; LANES]; 2];
    let mut all = [f32::NEG_INFINITY; LANES];
    let (spans, rest) = row.as_chunks::<SPAN>();
    for (span, top) in spans.iter().zip(&mut *tops) {
        let mut max = [[f32::NEG_INFINITY; LANES]; 2];
        for j in 0..SPAN / LANES {
            for i in 0..LANES {
                let x = span[j * LANES + i];
                max[j % 2][i] = larger(x, max[j % 2][i]);
                sums[j % 2][i] += x;
            }
        }
        for i in 0..LANES {
            top[i] = larger(max[0][i], max[1][i]);
            all[i] = larger(top[i], all[i]);
        }
    }
    if !rest.is_empty() {
        let top = &mut tops[spans.len()];
        *top = [f32::NEG_INFINITY; LANES];
        for (i, &x) in rest.iter().enumerate() {
            top[i % LANES] = larger(x, top[i % LANES]);
            all[i % LANES] = larger(x, all[i % LANES]);
            sums[0][i % LANES] += x;
        }
    }
    let mut max = f32::NEG_INFINITY;
    let mut sum = 0.0;
    for i in 0..LANES {
        max = larger(all[i], max);
        sum += sums[0][i] + sums[1][i];
    }
    (max, !is_logit(sum))
}

#[inline(always)]
fn first_equal_body(row: &[f32], tops: &[[f32; LANES]], value: f32) -> usize {
    for (span, (top, chunk)) in tops.iter().zip(row.chunks(SPAN)).enumerate() {
        let mut any = false;
        for x in top {
            any |= *x == value;
        }
        if any && let Some(index) = chunk.iter().position(|&x| x == value) {
            return span * SPAN + index;
        }
    }
    row.len()
}

#[cold]
fn offence(row: &[f32], column: usize) -> Error {
    if row[column].is_nan() {
        Error::NotANumber { row: 0, column }
    } else {
        Error::PositiveInfinity { row: 0, column }
    }
}
