//! One pass over a row: is it a row of logits, what is its maximum, and where.

use crate::error::{Error, Result};
use crate::level::{Level, kernel};
use crate::weight::MAX_VOCABULARY;

/// Lanes of a chunk: one AVX-512 register of float32.
pub(crate) const LANES: usize = 16;

/// Four chunks in flight: a maximum takes four cycles, and two can start in each.
const WIDE: usize = 4 * LANES;

/// Checks a row and returns its maximum, which is finite.
///
/// # Errors
/// NaN, +inf, an empty row, a row of -inf alone, or one beyond [`MAX_VOCABULARY`].
pub fn maximum(level: Level, row: &[f32]) -> Result<f32> {
    if row.is_empty() {
        return Err(Error::EmptyVocabulary);
    }
    if row.len() > MAX_VOCABULARY {
        return Err(Error::VocabularyTooLarge { size: row.len(), limit: MAX_VOCABULARY });
    }
    let (max, bad) = scan(level, row);
    if bad {
        return Err(offence(row));
    }
    if max == f32::NEG_INFINITY {
        return Err(Error::NothingAllowed { row: 0 });
    }
    Ok(max)
}

/// The first token in the total order.
///
/// # Errors
/// As [`maximum`].
pub fn argmax(level: Level, row: &[f32]) -> Result<u32> {
    let max = maximum(level, row)?;
    Ok(position_of(level, row, max) as u32)
}

/// The first index at which `row` equals `value`, or its length.
pub(crate) fn position_of(level: Level, row: &[f32], value: f32) -> usize {
    first_equal(level, row, value)
}

kernel! {
    fn scan(row: &[f32]) -> (f32, bool) = scan_body;
}
kernel! {
    fn first_equal(row: &[f32], value: f32) -> usize = first_equal_body;
}

/// Neither NaN nor +inf: one comparison, false for both.
#[inline(always)]
fn is_logit(x: f32) -> bool {
    x < f32::INFINITY
}

#[inline(always)]
fn scan_body(row: &[f32]) -> (f32, bool) {
    let mut max = [f32::NEG_INFINITY; WIDE];
    let mut bad = [0u32; WIDE];
    let (chunks, rest) = row.as_chunks::<WIDE>();
    for chunk in chunks {
        for lane in 0..WIDE {
            let x = chunk[lane];
            max[lane] = if x > max[lane] { x } else { max[lane] };
            bad[lane] |= u32::from(!is_logit(x));
        }
    }
    let mut top = f32::NEG_INFINITY;
    let mut any = 0;
    for lane in 0..WIDE {
        top = if max[lane] > top { max[lane] } else { top };
        any |= bad[lane];
    }
    for &x in rest {
        top = if x > top { x } else { top };
        any |= u32::from(!is_logit(x));
    }
    (top, any != 0)
}

#[inline(always)]
fn first_equal_body(row: &[f32], value: f32) -> usize {
    let (chunks, rest) = row.as_chunks::<LANES>();
    for (index, chunk) in chunks.iter().enumerate() {
        let mut any = false;
        for &x in chunk {
            any |= x == value;
        }
        if any {
            let lane = chunk.iter().position(|&x| x == value).unwrap_or(0);
            return index * LANES + lane;
        }
    }
    let start = row.len() - rest.len();
    start + rest.iter().position(|&x| x == value).unwrap_or(rest.len())
}

/// The first entry that is no logit. Only called when there is one.
#[cold]
fn offence(row: &[f32]) -> Error {
    let column = row.iter().position(|&x| !is_logit(x)).unwrap_or(0);
    if row[column].is_nan() {
        Error::NotANumber { row: 0, column }
    } else {
        Error::PositiveInfinity { row: 0, column }
    }
}
