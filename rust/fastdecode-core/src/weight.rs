//! The law's integer weights: `weight(l - max) = floor(2^42 * exp((l - max) / temperature))`, as
//! computed by the fixed sequence of float32 operations below.
//!
//! Integer sums are associative, so lanes, blocks and threads cannot change a total, and the law
//! that is drawn from is exactly `w / W`. The largest weight is 2^42 and a row has fewer than 2^22
//! tokens, so a total fits in 64 bits.

/// The weight of the likeliest token is 2 to this power.
pub const WEIGHT_BITS: u32 = 42;

/// Longest row for which a total surely fits in 64 bits.
pub const MAX_VOCABULARY: usize = (1 << (64 - WEIGHT_BITS)) - 1;

/// `log2(e) / temperature` in two floats, so that the product with a logit difference keeps about
/// 48 bits and the only rounding that matters is that of the difference itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    high: f32,
    low: f32,
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
        let high = exact as f32;
        let low = (exact - f64::from(high)) as f32;
        Self { high, low, limit: FLOOR / high }
    }

    /// The scaled difference, in octaves: monotone in `difference`, for bucketing.
    #[inline(always)]
    pub(crate) fn octaves(self, difference: f32) -> f32 {
        difference * self.high
    }
}

/// So many octaves down the weight is zero; stopping here keeps every step finite.
const FLOOR: f32 = -100.0;

/// Adding this rounds a small float to an integer, ties to even, and leaves it in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// The weight of a token `difference <= 0` below the row's maximum; -inf has weight 0.
///
/// Branch-free and without conversions (whose saturation keeps loops scalar), so that a loop over
/// it becomes vector code. 2^f on [-1/2, 1/2] is a polynomial of degree 6 with relative error 2e-9
/// before rounding, 1.0 at f = 0 exactly.
#[inline(always)]
#[must_use]
pub fn weight(difference: f32, scale: Scale) -> u64 {
    let difference = if difference > scale.limit { difference } else { scale.limit };
    let shifted = scale.octaves(difference) + ROUNDER;
    let whole = shifted - ROUNDER;
    let f = difference.mul_add(scale.low, difference.mul_add(scale.high, -whole));

    let mut p = 0.00015353279f32;
    p = p.mul_add(f, 0.0013398977);
    p = p.mul_add(f, 0.009618439);
    p = p.mul_add(f, 0.055503324);
    p = p.mul_add(f, 0.24022648);
    p = p.mul_add(f, std::f32::consts::LN_2);
    p = p.mul_add(f, 1.0);

    // p lies in (0.7, 1.42), so its biased exponent is 126 or 127 and p * 2^24 is an integer: the
    // significand, doubled where the exponent is odd.
    let bits = p.to_bits();
    let mantissa = ((bits & 0x7F_FFFF) | 0x80_0000) << (bits >> 23 & 1);
    let shift = ROUNDER.to_bits().wrapping_sub(shifted.to_bits());
    let shift = if shift > 63 { 63 } else { shift };
    (u64::from(mantissa) << (WEIGHT_BITS - 24)) >> shift
}

#[cfg(test)]
mod tests {
    use super::{Scale, WEIGHT_BITS, weight};

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

    /// Every float32 from 0 to beyond the last non-zero weight, against the platform's f64 exp.
    #[test]
    fn every_float_in_range_at_temperature_one() {
        let scale = Scale::new(1.0);
        let mut worst = 0.0f64;
        let last = 30.0f32.to_bits();
        for bits in 0..=last {
            let difference = -f32::from_bits(bits);
            let exact = f64::from(difference).exp() * ONE;
            let got = weight(difference, scale) as f64;
            // One unit for the floor, the rest is relative.
            let error = ((got - exact).abs() - 1.0).max(0.0) / exact;
            worst = worst.max(error);
        }
        assert!(worst < 1.3e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn temperatures_scale_the_exponent() {
        for temperature in [0.01, 0.3, 0.7, 1.3, 2.0, 10.0, 1000.0] {
            let scale = Scale::new(temperature);
            for step in 0..20_000 {
                let difference = -(step as f32) * 0.001 * temperature as f32;
                let exact = (f64::from(difference) / temperature).exp() * ONE;
                let got = weight(difference, scale) as f64;
                assert!(((got - exact).abs() - 1.0) / exact < 1.3e-7, "{temperature} {difference}");
            }
        }
    }
}
