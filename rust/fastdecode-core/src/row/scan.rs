//! The first pass over a row: it checks the logits and finds their maximum and the maxima of groups
//! of them, which show every later pass where to look.

use crate::error::{Error, Result};
use fastdecode_simd::Level;
use fastdecode_simd::{LANES, Lanes, kernel};

/// The longest row that is accepted: a law's total weight fits in 64 bits up to it.
pub const MAX_VOCABULARY: usize = (1 << 22) - 1;

/// The number of logits that one entry of [`Tops`] covers.
pub(crate) const SPAN: usize = 8 * LANES;

/// The maxima of a row's groups: entry `s`, lane `i` is the largest logit at `s * SPAN + i + 16 j`
/// for j < 8. A group goes across registers, so its maximum needs no shuffle.
pub(crate) type Tops = Vec<[f32; LANES]>;

/// Checks a row, fills `tops`, and returns the row's maximum, which is finite.
///
/// # Errors
/// NaN, +inf, an empty row, a row of -inf alone, or one beyond [`MAX_VOCABULARY`].
pub(crate) fn survey(level: Level, row: &[f32], tops: &mut Tops) -> Result<f32> {
    make_room(row, tops)?;
    let (max, suspicious) = maxima(level, row, tops);
    checked_max(row, max, suspicious)
}

/// Gives `tops` an entry for each of the row's spans.
pub(crate) fn make_room(row: &[f32], tops: &mut Tops) -> Result<()> {
    if row.is_empty() {
        return Err(Error::EmptyVocabulary);
    }
    if row.len() > MAX_VOCABULARY {
        return Err(Error::VocabularyTooLarge { size: row.len(), limit: MAX_VOCABULARY });
    }
    tops.resize(row.len().div_ceil(SPAN), [0.0; LANES]);
    Ok(())
}

/// The result of a first pass, after a closer check of a suspicious row.
pub(crate) fn checked_max(row: &[f32], max: f32, suspicious: bool) -> Result<f32> {
    if suspicious && let Some(column) = row.iter().position(|&x| !is_logit(x)) {
        return Err(offence(row, column));
    }
    if max == f32::NEG_INFINITY {
        return Err(Error::NothingAllowed { row: 0 });
    }
    Ok(max)
}

kernel! {
    fn maxima(row: &[f32], tops: &mut [[f32; LANES]]) -> (f32, bool) = maxima_body;
}
kernel! {
    /// The first index at which `row` equals `value`, its maximum.
    pub(crate) fn first_equal(row: &[f32], tops: &[[f32; LANES]], value: f32) -> usize = first_equal_body;
}

/// Neither NaN nor +inf: one comparison, false for both.
#[inline(always)]
fn is_logit(x: f32) -> bool {
    x < f32::INFINITY
}

/// What the first pass over a row collects.
#[derive(Clone, Copy)]
pub(crate) struct Peaks<L: Lanes> {
    // Two of each, so that consecutive vectors do not depend on each other.
    span: [L::V; 2],
    sums: [L::V; 2],
    all: L::V,
}

impl<L: Lanes> Peaks<L> {
    #[inline(always)]
    pub fn new(on: L) -> Self {
        let least = on.splat(f32::NEG_INFINITY);
        Self { span: [least; 2], sums: [on.splat(0.0); 2], all: least }
    }

    /// Takes a vector of logits, the `place`-th of its span.
    #[inline(always)]
    pub fn see(&mut self, on: L, x: L::V, place: usize) {
        self.span[place % 2] = on.max(x, self.span[place % 2]);
        self.sums[place % 2] = on.add(x, self.sums[place % 2]);
    }

    /// Takes the row's last logits, fewer than a vector.
    #[inline(always)]
    pub fn see_part(&mut self, on: L, chunk: &[f32]) {
        self.span[0] = on.max(on.load_part(chunk, f32::NEG_INFINITY), self.span[0]);
        self.sums[0] = on.add(on.load_part(chunk, 0.0), self.sums[0]);
    }

    /// Writes a span's maxima and returns them.
    #[inline(always)]
    pub fn end_span(&mut self, on: L, top: &mut [f32; LANES]) -> L::V {
        let max = on.max(self.span[0], self.span[1]);
        self.span = [on.splat(f32::NEG_INFINITY); 2];
        on.store(max, top);
        self.all = on.max(max, self.all);
        max
    }

    /// The maximum, and whether the row needs a closer look: a sum is NaN or +inf wherever a summand
    /// is, and where finite summands overflow. The addition is free next to the maximum, a second
    /// comparison would not be.
    #[inline(always)]
    pub fn end(self, on: L) -> (f32, bool) {
        let max = on.array(self.all).into_iter().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = on.array(on.add(self.sums[0], self.sums[1])).into_iter().sum();
        (max, !is_logit(sum))
    }
}

/// Fills `tops`.
#[inline(always)]
fn maxima_body<L: Lanes>(on: L, row: &[f32], tops: &mut [[f32; LANES]]) -> (f32, bool) {
    let mut peaks = Peaks::new(on);
    let (spans, rest) = row.as_chunks::<SPAN>();
    for (span, top) in spans.iter().zip(&mut *tops) {
        let (chunks, _) = span.as_chunks::<LANES>();
        for (place, chunk) in chunks.iter().enumerate() {
            peaks.see(on, on.load(chunk), place);
        }
        peaks.end_span(on, top);
    }
    if let Some(top) = tops.get_mut(spans.len()) {
        for chunk in rest.chunks(LANES) {
            peaks.see_part(on, chunk);
        }
        peaks.end_span(on, top);
    }
    peaks.end(on)
}

#[inline(always)]
fn first_equal_body<L: Lanes>(on: L, row: &[f32], tops: &[[f32; LANES]], value: f32) -> usize {
    let bound = on.splat(value);
    for (span, (top, chunk)) in tops.iter().zip(row.chunks(SPAN)).enumerate() {
        if on.at_least(on.load(top), bound) != 0
            && let Some(index) = chunk.iter().position(|&x| x == value)
        {
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
