//! The law's integer weights: `weight(l - max) = floor(2^42 * exp((l - max) / temperature))`, as
//! computed by the fixed sequence of float32 operations below.
//!
//! Integer sums are associative, so lanes, blocks and threads cannot change a total, and the law
//! that is drawn from is exactly `w / W`. The largest weight is 2^42 and a row has fewer than 2^22
//! tokens, so a total fits in 64 bits.

use crate::lanes::{LANES, Lanes, kernel};
use crate::law::Bounds;
use crate::ln::ln;
use crate::order::Candidate;

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

    /// The scaled differences, in octaves: monotone, and at least `FLOOR`.
    #[inline(always)]
    pub(crate) fn octaves<L: Lanes>(self, on: L, differences: L::V) -> L::V {
        on.mul(on.max(differences, on.splat(self.limit)), on.splat(self.octaves_per_logit))
    }

    /// The same of one difference.
    pub(crate) fn octave(self, difference: f32) -> f32 {
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

/// 2^f on [-1/2, 1/2]: relative error 1.1e-7 before rounding (minimax, by linear programming), and
/// 1 at f = 0 exactly. From the highest power down.
#[expect(clippy::approx_constant, reason = "the minimax coefficient, which is not ln 2")]
const POLYNOMIAL: [f32; 6] = [0.0013264727, 0.009671513, 0.055507336, 0.24022242, 0.693147, 1.0];

/// The weights before their fractions are dropped, of tokens `difference <= 0` below the maximum;
/// between 2^-59 and 2^42.
#[inline(always)]
pub(crate) fn real_weights<L: Lanes>(on: L, differences: L::V, scale: Scale) -> L::V {
    let rounder = on.splat(ROUNDER);
    let octaves = on.splat(scale.octaves_per_logit);
    let differences = on.max(differences, on.splat(scale.limit));
    let shifted = on.fma(differences, octaves, rounder);
    let whole = on.sub(shifted, rounder);
    let f = on.fma(differences, octaves, on.sub(on.splat(0.0), whole));
    let mut p = on.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        p = on.fma(p, f, on.splat(*coefficient));
    }
    // Times 2^(whole + 42), by way of the exponent; what is above the low bits is shifted out.
    on.of_bits(on.add_int(on.bits(p), on.to_exponent(on.bits(shifted))))
}

/// [`real_weights`] of one token, by the same operations.
fn real_weight(difference: f32, scale: Scale) -> f32 {
    let difference = scale.clamped(difference);
    let shifted = difference.mul_add(scale.octaves_per_logit, ROUNDER);
    let f = difference.mul_add(scale.octaves_per_logit, -(shifted - ROUNDER));
    let p = POLYNOMIAL.into_iter().reduce(|p, coefficient| p.mul_add(f, coefficient));
    f32::from_bits(p.unwrap_or(1.0).to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The weight of a token `difference <= 0` below the row's maximum; -inf has weight 0.
#[must_use]
pub fn weight(difference: f32, scale: Scale) -> u64 {
    real_weight(difference, scale) as u64
}

kernel! {
    /// The weights of listed tokens. One at a time is ten times as slow: outside a kernel a fused
    /// multiply-add is a call.
    pub(crate) fn weigh(
        tokens: &[Candidate], max: f32, scale: Scale, out: &mut Vec<u64>,
    ) -> () = weigh_body;
}

#[inline(always)]
fn weigh_body<L: Lanes>(on: L, tokens: &[Candidate], max: f32, scale: Scale, out: &mut Vec<u64>) {
    out.clear();
    for tokens in tokens.chunks(LANES) {
        let mut logits = [max; LANES];
        for (logit, token) in logits.iter_mut().zip(tokens) {
            *logit = token.logit;
        }
        let differences = on.sub(on.load(&logits), on.splat(max));
        let weights = Halves::new(on, real_weights(on, differences, scale)).values(on);
        out.extend_from_slice(&weights[..tokens.len()]);
    }
}

/// Weights, or sums of up to 1023 of them, in two words of 32 bits: vector units convert floats to
/// these at every level, and need no wide lanes for the sum (a third faster than 64-bit lanes with
/// AVX-512, several times with less).
#[derive(Clone, Copy)]
pub(crate) struct Halves<L: Lanes> {
    pub high: L::I,
    pub low: L::I,
}

/// Bits of the lower half, while it is of one weight.
pub(crate) const LOW_BITS: u32 = WEIGHT_BITS / 2;

/// Weights that can be added before a half overflows.
pub(crate) const CAPACITY: usize = (1 << (31 - LOW_BITS)) - 1;

impl<L: Lanes> Halves<L> {
    #[inline(always)]
    pub fn zero(on: L) -> Self {
        Self { high: on.splat_int(0), low: on.splat_int(0) }
    }

    /// Drops the fractions of [`real_weights`].
    #[inline(always)]
    pub fn new(on: L, real: L::V) -> Self {
        // 2^-21 of each, by way of the exponent.
        let down = on.splat_int((LOW_BITS << 23).wrapping_neg());
        let high = on.truncate(on.of_bits(on.add_int(on.bits(real), down)));
        let rest = on.fma(on.to_float(high), on.splat(-((1 << LOW_BITS) as f32)), real);
        Self { high, low: on.truncate(rest) }
    }

    #[inline(always)]
    pub fn add(self, on: L, other: Self) -> Self {
        Self { high: on.add_int(self.high, other.high), low: on.add_int(self.low, other.low) }
    }

    /// Each lane's value.
    #[inline(always)]
    pub fn values(self, on: L) -> [u64; LANES] {
        let (high, low) = (on.int_array(self.high), on.int_array(self.low));
        std::array::from_fn(|i| (u64::from(high[i]) << LOW_BITS) + u64::from(low[i]))
    }
}

/// A real weight whose integer is zero, for what is cut.
const NOTHING: f32 = 1.0 / (1u64 << 40) as f32;

/// [`real_weights`] of the logits inside the bounds, otherwise nothing.
#[inline(always)]
pub(crate) fn bounded_weights<L: Lanes>(
    on: L,
    logits: L::V,
    bounds: Bounds,
    max: f32,
    scale: Scale,
) -> L::V {
    let real = real_weights(on, on.sub(logits, on.splat(max)), scale);
    let (low, high) = (on.splat(bounds.low), on.splat(bounds.high));
    on.between(logits, low, high, real, on.splat(NOTHING))
}

#[cfg(test)]
mod tests {
    use super::{Halves, Scale, WEIGHT_BITS, real_weights, weight};
    use crate::lanes::{LANES, Lanes, kernel};
    use crate::level::Level;

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

    kernel! {
        fn weights(differences: &[f32; LANES], scale: Scale) -> [u64; LANES] = weights_body;
    }

    #[inline(always)]
    fn weights_body<L: Lanes>(on: L, differences: &[f32; LANES], scale: Scale) -> [u64; LANES] {
        Halves::new(on, real_weights(on, on.load(differences), scale)).values(on)
    }

    /// Every float32 from 0 to beyond the last non-zero weight, against the platform's f64 exp.
    #[test]
    fn every_float_in_range_at_temperature_one() {
        let (scale, level) = (Scale::new(1.0), Level::detect());
        let mut worst = 0.0f64;
        let mut before = 1 << WEIGHT_BITS;
        for first in (0..=30.0f32.to_bits()).step_by(LANES) {
            let differences = std::array::from_fn(|i| -f32::from_bits(first + i as u32));
            for (difference, got) in
                differences.into_iter().zip(weights(level, &differences, scale))
            {
                let exact = f64::from(difference).exp() * ONE;
                // One unit for the floor, the rest is relative.
                let error = ((got as f64 - exact).abs() - 1.0).max(0.0) / exact;
                worst = worst.max(error);
                // Rounding may turn the order of two neighbours, by no more than two units in the
                // last place: whatever needs an order takes the logits'.
                assert!(got <= before + (before >> 22), "{difference}");
                before = got;
            }
        }
        assert!(worst < 6e-7, "worst relative error {worst:e}");
    }

    /// The same bits from one token alone and from each instruction set.
    #[test]
    fn levels_and_single_tokens_agree() {
        for temperature in [1e-3, 0.7, 1.0, 3.0, 1e300] {
            let scale = Scale::new(temperature);
            for first in (0..=(f32::INFINITY.to_bits())).step_by(65_521) {
                let differences =
                    std::array::from_fn(|i| -f32::from_bits(first.saturating_sub(i as u32)));
                let single = differences.map(|difference| weight(difference, scale));
                for level in Level::available() {
                    assert_eq!(weights(level, &differences, scale), single, "{differences:?}");
                }
            }
        }
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
