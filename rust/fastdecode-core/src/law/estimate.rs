//! Bounds on W from the first pass over a row: an exact W needs a longer pass, which can only begin
//! once the maximum is known. For a truncation the two bounds nearly always decide as W would.
//!
//! The pass adds up floats, `2^(42 + octaves)` of the logits less a reference near their
//! maximum. Their sum S, scaled as if the maximum had been the reference, differs from W by
//! - half a unit for each token, as weights are rounded to integers;
//! - the errors of the two exponentials, each below 2e-7 of itself;
//! - the rounding of the two differences. A difference of k octaves is off by up to `u k` octaves,
//!   u = 2^-24, and so its weight by up to `u k ln 2` of itself. Over the law the mean of k is the
//!   entropy in bits less `log2(W / 2^42)`, so it is at most `log2(tokens * 2^42 / W)`;
//! - u for each addition that a float goes through, as none is negative (Higham, "Accuracy and
//!   stability of numerical algorithms", 2002, section 4.2).

use crate::error::Result;
use crate::law::groups::{Groups, SPANS, STRETCH};
use crate::law::weight::{Real, Scale, WEIGHT_BITS};
use crate::math::exp::exp;
use crate::row::scan::{Peaks, SPAN, Tops, checked_max, make_room};
use fastdecode_simd::{LANES, Lanes, Level, kernel};
use std::f64::consts::LN_2;

/// Half a unit in the last place of a float's mantissa.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// The number of adjacent vectors that have separate sums.
const BESIDE: usize = 2;

/// The most additions of single floats that a weight takes part in before the sum continues with
/// compensation: in its lane, and where the lanes are combined. (The rest of a row after its
/// stretches takes part in fewer.)
const ADDITIONS: usize = STRETCH / (BESIDE * LANES) + 1;

/// The most octaves between the reference and the maximum, either way, at which all sums stay finite
/// and no weight above zero is lost.
const REACH: f64 = 40.0;

/// A lower and an upper bound on W.
pub(crate) type Between = (u64, u64);

/// As [`survey`](crate::row::scan::survey); also fills `groups`, and returns bounds on W unless the
/// row's range is extreme.
///
/// # Errors
/// As [`survey`](crate::row::scan::survey).
pub(crate) fn survey_weighing(
    level: Level,
    row: &[f32],
    scale: Scale,
    tops: &mut Tops,
    groups: &mut Groups,
) -> Result<(f32, Option<Between>)> {
    make_room(row, tops)?;
    groups.resize(row.len());
    let Weighed { max, suspicious, reference, sum } = weigh(level, row, scale, tops, groups);
    let max = checked_max(row, max, suspicious)?;
    groups.total = sum;
    Ok((max, between(sum, scale.octaves_between(max, reference), row.len())))
}

/// The results of a pass.
struct Weighed {
    max: f32,
    suspicious: bool,
    reference: f32,
    sum: f64,
}

/// One vector in this many is sampled for the reference.
const SAMPLED: usize = 64;

fn between(sum: f64, octaves: f64, tokens: usize) -> Option<Between> {
    let sum = sum * exp(octaves * LN_2);
    if !(octaves.abs() <= REACH && sum.is_finite()) {
        return None;
    }
    // One extra octave and one extra addition cover the terms of higher order.
    let mean = (tokens as f64 * (1u64 << WEIGHT_BITS) as f64 / sum).log2() + 1.0;
    let differences = LN_2 * U * (2.0 * mean + octaves.abs());
    let relative = 4e-7 + differences + (ADDITIONS + 1) as f64 * U;
    // A token beyond the scale's limit weighs less than half a unit, which is covered as well.
    let error = sum * relative + tokens as f64;
    Some(((sum - error).floor() as u64, (sum + error).ceil() as u64))
}

kernel! {
    fn weigh(
        row: &[f32], scale: Scale, tops: &mut [[f32; LANES]], groups: &mut Groups,
    ) -> Weighed = weigh_body;
}

#[inline(always)]
fn weigh_body<L: Lanes>(
    on: L,
    row: &[f32],
    scale: Scale,
    tops: &mut [[f32; LANES]],
    groups: &mut Groups,
) -> Weighed {
    let reference = reference(on, row);
    let references = on.splat(reference);
    let mut peaks = Peaks::new(on);
    let mut total = Total::new(on);
    let mut groups = groups.maxima.iter_mut().zip(&mut groups.masses);
    let (stretches, rest) = row.as_chunks::<STRETCH>();
    let (stretch_tops, rest_tops) = tops.split_at_mut(stretches.len() * SPANS);
    let (stretch_tops, _) = stretch_tops.as_chunks_mut::<SPANS>();
    for ((stretch, tops), (top, mass)) in stretches.iter().zip(stretch_tops).zip(&mut groups) {
        let mut sums = [on.splat(0.0); BESIDE];
        let mut maxima = on.splat(f32::NEG_INFINITY);
        for (span, top) in stretch.as_chunks::<SPAN>().0.iter().zip(tops) {
            for group in span.as_chunks::<{ BESIDE * LANES }>().0 {
                let (chunks, _) = group.as_chunks::<LANES>();
                let logits: [L::V; BESIDE] = std::array::from_fn(|i| on.load(&chunks[i]));
                for (place, x) in logits.into_iter().enumerate() {
                    peaks.see(on, x, place);
                }
                let differences = logits.map(|x| on.sub(x, references));
                let reals = Real::side_by_side::<BESIDE>(on, differences, scale);
                for (sum, real) in sums.iter_mut().zip(reals) {
                    *sum = on.fma(real.part, real.power, *sum);
                }
            }
            maxima = on.max(maxima, peaks.end_span(on, top));
        }
        let [first, second] = sums;
        let sum = on.add(first, second);
        total.add(on, sum);
        on.store(maxima, top);
        on.store(sum, mass);
    }
    if let Some((top, mass)) = groups.next() {
        let (mut sums, mut maxima) = (on.splat(0.0), on.splat(f32::NEG_INFINITY));
        for (span, top) in rest.chunks(SPAN).zip(rest_tops) {
            let mut sum = on.splat(0.0);
            for chunk in span.chunks(LANES) {
                peaks.see_part(on, chunk);
                let differences = on.sub(on.load_part(chunk, f32::NEG_INFINITY), references);
                let real = Real::new(on, differences, scale);
                sum = on.fma(real.part, real.power, sum);
            }
            total.add(on, sum);
            sums = on.add(sums, sum);
            maxima = on.max(maxima, peaks.end_span(on, top));
        }
        on.store(maxima, top);
        on.store(sums, mass);
    }
    let (max, suspicious) = peaks.end(on);
    Weighed { max, suspicious, reference, sum: total.value(on) }
}

/// A logit near the maximum, or -inf where the sample has no finite one.
#[inline(always)]
fn reference<L: Lanes>(on: L, row: &[f32]) -> f32 {
    let mut max = on.splat(f32::NEG_INFINITY);
    for chunk in row.as_chunks::<LANES>().0.iter().step_by(SAMPLED) {
        max = on.max(on.load(chunk), max);
    }
    on.array(max).into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// A sum per lane, with the exact rounding errors of its additions (Knuth, "The art of computer
/// programming", volume 2, section 4.2.2).
#[derive(Clone, Copy)]
struct Total<L: Lanes> {
    sum: L::V,
    lost: L::V,
}

impl<L: Lanes> Total<L> {
    #[inline(always)]
    fn new(on: L) -> Self {
        Self { sum: on.splat(0.0), lost: on.splat(0.0) }
    }

    #[inline(always)]
    fn add(&mut self, on: L, x: L::V) {
        let sum = on.add(self.sum, x);
        let added = on.sub(sum, self.sum);
        let lost = on.add(on.sub(self.sum, on.sub(sum, added)), on.sub(x, added));
        self.sum = sum;
        self.lost = on.add(self.lost, lost);
    }

    #[inline(always)]
    fn value(self, on: L) -> f64 {
        let lanes = on.array(self.sum).into_iter().zip(on.array(self.lost));
        lanes.map(|(sum, lost)| f64::from(sum) + f64::from(lost)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Total, between, survey_weighing};
    use crate::law::Law;
    use crate::law::groups::Groups;
    use crate::law::weight::Scale;
    use crate::row::scan::survey;
    use fastdecode_simd::{Lanes, Level, kernel};

    /// Logits from `base` down to `base - spread`, with a few that are banned or alone at the top.
    fn row(len: usize, base: f32, spread: f32, top: f32) -> Vec<f32> {
        let mut state = len as u32;
        let mut row: Vec<f32> = (0..len)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let share = (state >> 8) as f32 / (1 << 24) as f32;
                if i % 97 == 96 { f32::NEG_INFINITY } else { base - share * spread }
            })
            .collect();
        row[len / 2] = base + top;
        row
    }

    /// Among others sums of equal numbers, which are rounded alike each time.
    #[test]
    fn the_total_lies_where_it_is_said_to() {
        let (mut told, mut asked) = (0, 0);
        for len in [1, 15, 16, 17, 127, 129, 384, 511, 512, 513, 1023, 1537, 20_001] {
            for base in [0.0, 1e-3, -100.3, 3e4, -1e30] {
                for (spread, top) in
                    [(0.0, 0.0), (0.0, 3.7), (1e-3, 1.3), (1.0, 0.1), (30.0, 12.9), (900.0, 0.0)]
                {
                    let row = row(len, base, spread, top);
                    for temperature in [1e-30, 0.013, 0.7, 1.0, 3.3, 1e30] {
                        asked += 1;
                        told += usize::from(is_told(&row, Scale::new(temperature)));
                    }
                }
            }
        }
        // The coldest temperature separates all neighbours.
        assert!(told * 3 > asked * 2, "{told} of {asked}");
    }

    fn is_told(row: &[f32], scale: Scale) -> bool {
        let mut tops = vec![];
        let max = survey(Level::detect(), row, &mut tops).unwrap();
        let total = Law::whole(Level::detect(), row, max, scale).sum(&mut vec![]);
        let found = Level::available().into_iter().map(|level| {
            let (mut same, mut groups) = (vec![], Groups::default());
            let found = survey_weighing(level, row, scale, &mut same, &mut groups).unwrap();
            assert_eq!((found.0, &same), (max, &tops));
            found.1.map(|between| (between, groups.maxima, groups.masses))
        });
        let mut found: Vec<_> = found.collect();
        found.dedup();
        assert_eq!(found.len(), 1, "levels differ");
        let Some(((low, high), ..)) = found[0] else { return false };
        assert!((low..=high).contains(&total), "{low} {total} {high}, {} tokens", row.len());
        let width = (high - low) as f64 - 2.0 * row.len() as f64 - 2.0;
        assert!(width < 1e-5 * total as f64, "{low} {total} {high}, {} tokens", row.len());
        true
    }

    /// Worked out by hand, from the list at the head of this file.
    #[test]
    fn the_error_is_the_sum_of_its_parts() {
        let unit = (1u64 << 42) as f64;
        for (tokens, share, octaves, relative) in [
            (50_257, 2.0, 0.0f64, 2.763_313e-6),
            (50_257, 2.0, 5.0, 2.969_887e-6),
            (1000, 64.0, -39.9, 3.531_664e-6),
        ] {
            let (low, high) = between(share * unit / octaves.exp2(), octaves, tokens).unwrap();
            let error = (high - low) as f64 / 2.0 - tokens as f64;
            assert!((error / (share * unit) / relative - 1.0).abs() < 1e-6, "{tokens} {octaves}");
            assert!(((high + low) as f64 / 2.0 / (share * unit) - 1.0).abs() < 1e-12);
        }
        for (sum, octaves) in [(unit, 40.1), (unit, -40.1), (unit, f64::NAN), (f64::NAN, 0.0)] {
            assert_eq!(between(sum, octaves, 10), None);
        }
        assert!(between(unit, 40.0, 10).is_some());
    }

    kernel! {
        fn summed(numbers: &[f32]) -> f64 = summed_body;
    }

    #[inline(always)]
    fn summed_body<L: Lanes>(on: L, numbers: &[f32]) -> f64 {
        let mut total = Total::new(on);
        for number in numbers {
            total.add(on, on.splat(*number));
        }
        total.value(on)
    }

    #[test]
    fn what_additions_lose_is_not_lost() {
        let mut numbers = vec![1e-9; 1000];
        numbers.extend([3e6, 1.0]);
        numbers.extend([7e-3; 1000]);
        let exact: f64 = numbers.iter().map(|x| f64::from(*x)).sum();
        for level in Level::available() {
            assert!((summed(level, &numbers) / (16.0 * exact) - 1.0).abs() < 1e-11);
        }
    }

    #[test]
    fn what_is_no_logit_is_told_as_by_a_survey() {
        for len in [1, 20, 130, 513, 2000] {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
                for place in [0, len / 2, len - 1] {
                    let mut row = row(len, -3.0, 5.0, 1.0);
                    row[place] = bad;
                    for level in Level::available() {
                        let mut groups = Groups::default();
                        let scale = Scale::new(1.0);
                        let found = survey_weighing(level, &row, scale, &mut vec![], &mut groups);
                        assert_eq!(
                            found.unwrap_err(),
                            survey(level, &row, &mut vec![]).unwrap_err()
                        );
                    }
                }
            }
            let row = vec![f32::NEG_INFINITY; len];
            let found = survey_weighing(
                Level::detect(),
                &row,
                Scale::new(1.0),
                &mut vec![],
                &mut Groups::default(),
            );
            assert_eq!(found.unwrap_err(), crate::error::Error::NothingAllowed { row: 0 });
        }
    }
}
