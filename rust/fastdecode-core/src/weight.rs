//! The law's integer weights: `weight(l - max) = floor(2^42 * exp((l - max) / temperature))`, as
//! computed by the fixed sequence of float32 operations below.
//!
//! Integer sums are associative, so lanes, blocks and threads cannot change a total, and the law
//! that is drawn from is exactly `w / W`. The largest weight is 2^42 and a row has fewer than 2^22
//! tokens, so a total fits in 64 bits.

use crate::law::Bounds;
use crate::ln::ln;

/// The weight of the likeliest token is 2 to this power.
pub const WEIGHT_BITS: u32 = 42;

/// Longest row for which a total surely fits in 64 bits.
pub const MAX_VOCABULARY: usize = (1 << (64 - WEIGHT_BITS)) - 1;

/// `log2(e) / temperature`, which turns a difference of logits into octaves.
///
/// One float: its rounding acts like a temperature that is off by 6e-8 of itself, which with the
/// rounding of the difference keeps a weight within 1.6e-6 of exact even 22 octaves down, further
/// than any token that could matter, and the law within 1e-6 in total variation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    octaves_per_logit: f32,
    /// The difference at which the weight is surely zero; all below it count as it.
    limit: f32,
}

impl Scale {
    /// For a temperature greater than zero.
    #[must_use]
    pub fn new(temperature: f64) -> Self {
        // Kept where the limit is a finite float. Temperatures beyond (below 1e-38, above 4e36)
        // act as its ends, which tells only on rows whose logits are as extreme themselves.
        let exact = (std::f64::consts::LOG2_E / temperature).clamp(3e-37, 1e38);
        let octaves_per_logit = exact as f32;
        Self { octaves_per_logit, limit: FLOOR / octaves_per_logit }
    }

    /// The scaled difference, in octaves: monotone in `difference`, and at least `FLOOR`.
    #[inline(always)]
    pub(crate) fn octaves(self, difference: f32) -> f32 {
        self.clamped(difference) * self.octaves_per_logit
    }

    /// A logit that every token with a weight of at least `least` reaches.
    pub(crate) fn logit_of(self, least: u64, max: f32) -> f32 {
        let octaves = ln(least) / std::f64::consts::LN_2 - f64::from(WEIGHT_BITS);
        let difference = (octaves - 1e-3) / f64::from(self.octaves_per_logit);
        // Rounding up by the difference's own half unit is far less than this.
        ((f64::from(max) + difference * (1.0 + 1e-6)) as f32).next_down()
    }

    #[inline(always)]
    fn clamped(self, difference: f32) -> f32 {
        if difference > self.limit { difference } else { self.limit }
    }
}

/// So many octaves down the weight is zero; stopping here keeps every step finite.
const FLOOR: f32 = -100.0;

/// Adding 1.5 * 2^23 rounds a small float to an integer, ties to even, and leaves it in the low
/// bits; the weight's own power of two rides along.
const ROUNDER: f32 = 12_582_912.0 + WEIGHT_BITS as f32;

/// The weight before its fraction is dropped, of a token `difference <= 0` below the maximum.
///
/// Branch-free, so that a loop over it becomes vector code. 2^f on [-1/2, 1/2] is a polynomial
/// of degree 5 with relative error 1.1e-7 before rounding (minimax, by linear programming), 1.0 at
/// f = 0 exactly.
#[inline(always)]
#[expect(clippy::approx_constant, reason = "the minimax coefficient, which is not ln 2")]
pub(crate) fn real_weight(difference: f32, scale: Scale) -> f32 {
    let difference = scale.clamped(difference);
    let shifted = difference.mul_add(scale.octaves_per_logit, ROUNDER);
    let whole = shifted - ROUNDER;
    let f = difference.mul_add(scale.octaves_per_logit, -whole);

    let mut p = 0.0013264727f32;
    p = p.mul_add(f, 0.009671513);
    p = p.mul_add(f, 0.055507336);
    p = p.mul_add(f, 0.24022242);
    p = p.mul_add(f, 0.693147);
    p = p.mul_add(f, 1.0);
    // Times 2^(whole + 42), by way of the exponent; what is above the low bits is shifted out.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The weight of a token `difference <= 0` below the row's maximum; -inf has weight 0.
#[inline(always)]
#[must_use]
pub fn weight(difference: f32, scale: Scale) -> u64 {
    real_weight(difference, scale) as u64
}

/// A weight, or a sum of up to 1023 of them, in two words of 32 bits: vector units convert floats
/// to these at every level, and need no wide lanes for the sum (a third faster than 64-bit lanes
/// with AVX-512, several times with less).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Halves {
    pub high: u32,
    pub low: u32,
}

impl Halves {
    /// Bits of `low`, while it is of one weight.
    pub const LOW_BITS: u32 = WEIGHT_BITS / 2;

    /// Weights that can be added before a half overflows.
    pub const CAPACITY: usize = (1 << (31 - Self::LOW_BITS)) - 1;

    /// Drops the fraction of a [`real_weight`].
    #[inline(always)]
    pub fn new(real: f32) -> Self {
        let shifted = f32::from_bits(real.to_bits().wrapping_sub(Self::LOW_BITS << 23));
        // SAFETY: `real` is between 2^-59 and 2^42 (see FLOOR), so this is at most 2^21, and not
        // NaN. `as` would saturate, which keeps loops scalar.
        let high: i32 = unsafe { shifted.to_int_unchecked() };
        let rest = (high as f32).mul_add(-((1 << Self::LOW_BITS) as f32), real);
        // SAFETY: what truncation left is at least 0 and below 2^21.
        let low: i32 = unsafe { rest.to_int_unchecked() };
        Self { high: high as u32, low: low as u32 }
    }

    #[inline(always)]
    pub fn add(&mut self, other: Self) {
        self.high += other.high;
        self.low += other.low;
    }

    #[inline(always)]
    pub fn value(self) -> u64 {
        (u64::from(self.high) << Self::LOW_BITS) + u64::from(self.low)
    }
}

/// A real weight whose integer is zero, for what is cut.
const NOTHING: f32 = 1.0 / (1u64 << 40) as f32;

/// [`real_weight`] of a logit inside the bounds, otherwise nothing.
#[inline(always)]
pub(crate) fn bounded_weight(logit: f32, bounds: Bounds, max: f32, scale: Scale) -> f32 {
    let real = real_weight(logit - max, scale);
    if bounds.contain(logit) { real } else { NOTHING }
}

#[cfg(test)]
mod tests {
    use super::{Halves, Scale, WEIGHT_BITS, real_weight, weight};

    const ONE: f64 = (1u64 << WEIGHT_BITS) as f64;

    #[test]
    fn the_maximum_has_weight_two_to_the_42() {
        for temperature in [1e-300, 1e-3, 0.7, 1.0, 5.0, 1e300] {
            assert_eq!(weight(0.0, Scale::new(temperature)), 1 << WEIGHT_BITS);
        }
    }

    #[test]
    fn banned_and_far_tokens_have_weight_zero() {
        for temperature in [1e-300, 0.7, 1.0, 1e300] {
            assert_eq!(weight(f32::NEG_INFINITY, Scale::new(temperature)), 0);
        }
        assert_eq!(weight(-30.0, Scale::new(1.0)), 0);
        assert_eq!(weight(f32::MIN, Scale::new(1.0)), 0);
        assert_eq!(weight(-1e-30, Scale::new(1e-300)), 0);
        assert_eq!(weight(-1.0, Scale::new(1e300)), 1 << WEIGHT_BITS);
    }

    /// Every float32 from 0 to beyond the last non-zero weight, against the platform's f64 exp,
    /// and in both forms.
    #[test]
    fn every_float_in_range_at_temperature_one() {
        let scale = Scale::new(1.0);
        let mut worst = 0.0f64;
        let mut before = 1 << WEIGHT_BITS;
        let last = 30.0f32.to_bits();
        for bits in 0..=last {
            let difference = -f32::from_bits(bits);
            let got = weight(difference, scale);
            assert_eq!(Halves::new(real_weight(difference, scale)).value(), got);
            let exact = f64::from(difference).exp() * ONE;
            // One unit for the floor, the rest is relative.
            let error = ((got as f64 - exact).abs() - 1.0).max(0.0) / exact;
            worst = worst.max(error);
            // Rounding may turn the order of two neighbours, by no more than two units in the
            // last place: whatever needs an order takes the logits'.
            assert!(got <= before + (before >> 22), "{difference}");
            before = got;
        }
        assert!(worst < 6e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn temperatures_scale_the_exponent() {
        for temperature in [0.01, 0.3, 0.7, 1.3, 2.0, 10.0, 1000.0] {
            let scale = Scale::new(temperature);
            for step in 0..20_000 {
                let difference = -(step as f32) * 0.001 * temperature as f32;
                let octaves = f64::from(difference) / temperature;
                let exact = octaves.exp() * ONE;
                let got = weight(difference, scale) as f64;
                let bound = 2e-7 - octaves * 6.1e-8;
                assert!(((got - exact).abs() - 1.0) / exact < bound, "{temperature} {difference}");
            }
        }
    }
}
