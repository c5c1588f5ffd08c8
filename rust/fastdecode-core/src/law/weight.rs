//! The law's integer weights: the integer nearest to `2^42 * exp((l - max) / temperature)`, as
//! computed by the fixed sequence of float32 operations below.
//!
//! Integer sums are associative, so lanes, blocks and threads cannot change a total, and a token is
//! drawn with the probability `w / W` exactly. The largest weight is 2^42 and a row has fewer than 2^22
//! tokens, so a total fits in 64 bits.

use crate::law::bounds::Bounds;
use crate::math::ln::ln;
use crate::row::order::Candidate;
use crate::row::scan::MAX_VOCABULARY;
use fastdecode_simd::{HALF_BITS, HIGH_BIAS, LANES, LOW_BIAS, Lanes, kernel};
use std::f64::consts::LN_2;

/// The weight of the likeliest token is 2 to this power.
pub const WEIGHT_BITS: u32 = 42;

// The longest row's total fits in 64 bits.
const _: () = assert!(MAX_VOCABULARY as u64 <= u64::MAX >> WEIGHT_BITS);

/// `log2(e) / temperature`, which turns a difference of logits into octaves.
///
/// As a single float it has a rounding error that acts like a temperature with a relative error of
/// 6e-8. Together with the rounding of the difference this keeps a weight within 1.6e-6 of exact even
/// 22 octaves down, further than any token that could matter, and the law within 1e-6 in total
/// variation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    octaves_per_logit: f32,
    /// A difference at which the weight is zero; differences below it are replaced by it.
    limit: f32,
}

impl Scale {
    /// For a temperature greater than zero.
    #[must_use]
    pub fn new(temperature: f64) -> Self {
        // The limit must be a finite float. Temperatures beyond that (below 1e-38, above 4e36) act
        // like the nearest one within, which matters only for rows with logits as extreme.
        let exact = (std::f64::consts::LOG2_E / temperature).clamp(3e-37, 1e38);
        let octaves_per_logit = exact as f32;
        Self { octaves_per_logit, limit: FLOOR / octaves_per_logit }
    }

    /// The scaled differences, in octaves: monotone, and at least `FLOOR`.
    #[inline(always)]
    pub(crate) fn octaves<L: Lanes>(self, on: L, differences: L::V) -> L::V {
        on.mul(on.max(differences, on.splat(self.limit)), on.splat(self.octaves_per_logit))
    }

    /// The same for one difference.
    pub(crate) fn octave(self, difference: f32) -> f32 {
        self.clamped(difference) * self.octaves_per_logit
    }

    /// From one logit to another.
    pub(crate) fn octaves_between(self, from: f32, to: f32) -> f64 {
        f64::from(self.octaves_per_logit) * (f64::from(to) - f64::from(from))
    }

    /// A lower bound on the logits of all tokens with a weight of at least `least`.
    pub(crate) fn logit_of(self, least: u64, max: f32) -> f32 {
        // Rounding adds at most half a unit, so before it the weight is at least half of `least`.
        let octaves = (ln(least) - 1.0 / least as f64) / LN_2 - f64::from(WEIGHT_BITS);
        let difference = (octaves - 1e-3) / f64::from(self.octaves_per_logit);
        // Rounding up by the difference's own half unit is far less than this.
        ((f64::from(max) + difference * (1.0 + 1e-6)) as f32).next_down()
    }

    #[inline(always)]
    fn clamped(self, difference: f32) -> f32 {
        if difference > self.limit { difference } else { self.limit }
    }
}

/// The octaves below the maximum at which weights are zero and scaling stops, so that every step
/// stays finite.
const FLOOR: f32 = -100.0;

/// Adding 1.5 * 2^20 rounds a small float to eighths, ties to even, and leaves them in the low
/// bits. The integer added to that turns them into the exponent of the weight's power of two.
const ROUNDER: f32 = 1_572_864.0 + (WEIGHT_BITS + 127) as f32;

/// 2^f on [-1/16, 1/16]: relative error 2.7e-8 before rounding (minimax, by linear programming),
/// and 1 at f = 0 exactly. From the highest power down.
const POLYNOMIAL: [f32; 4] = [0.055496223, 0.24025764, 0.69314724, 1.0];

/// 2^(j / 8), as the bits of the floats nearest to them.
const EIGHTHS: [u32; 8] = [
    0x3f80_0000,
    0x3f8b_95c2,
    0x3f98_37f0,
    0x3fa5_fed7,
    0x3fb5_04f3,
    0x3fc5_672a,
    0x3fd7_44fd,
    0x3fea_c0c7,
];

/// What turns `shifted << 20`, an exponent with the eighths below it, into the bits of a power of
/// two: [`EIGHTHS`] without their exponent and less the eighths, twice.
const MANTISSAS: [u32; LANES] = {
    let mut table = [0; LANES];
    let mut i = 0;
    while i < LANES {
        let eighths = (i % 8) as u32;
        table[i] = EIGHTHS[i % 8].wrapping_sub(EIGHTHS[0]).wrapping_sub(eighths << 20);
        i += 1;
    }
    table
};

/// Weights before they are rounded, as two factors: 2^f with f between -1/16 and 1/16, and a power
/// of two in whole eighths.
#[derive(Clone, Copy)]
pub(crate) struct Real<L: Lanes> {
    pub part: L::V,
    pub power: L::V,
}

impl<L: Lanes> Real<L> {
    /// For `N` vectors of tokens `difference <= 0` below the maximum. Each step is done for all of
    /// them before the next, so that the CPU can overlap them.
    #[inline(always)]
    pub fn side_by_side<const N: usize>(on: L, differences: [L::V; N], scale: Scale) -> [Self; N] {
        let rounder = on.splat(ROUNDER);
        let octaves = on.splat(scale.octaves_per_logit);
        let limit = on.splat(scale.limit);
        let mantissas = on.load_int(&MANTISSAS);
        let differences = differences.map(|difference| on.nearer(difference, limit));
        let shifted = differences.map(|difference| on.fma(difference, octaves, rounder));
        let mut f = differences;
        for (f, shifted) in f.iter_mut().zip(shifted) {
            *f = on.fma(*f, octaves, on.sub(rounder, shifted));
        }
        let powers = shifted.map(|shifted| {
            let shifted = on.bits(shifted);
            // What is above the low bits is shifted out.
            on.of_bits(on.add_int(on.to_exponent(shifted), on.eighths(mantissas, shifted)))
        });
        let mut parts = [on.splat(POLYNOMIAL[0]); N];
        for coefficient in &POLYNOMIAL[1..] {
            for (part, f) in parts.iter_mut().zip(f) {
                *part = on.fma(*part, f, on.splat(*coefficient));
            }
        }
        std::array::from_fn(|i| Self { part: parts[i], power: powers[i] })
    }

    #[inline(always)]
    pub fn new(on: L, differences: L::V, scale: Scale) -> Self {
        let [real] = Self::side_by_side(on, [differences], scale);
        real
    }

    /// The weights of logits inside the bounds, and zero for the others once rounded.
    #[inline(always)]
    pub fn bounded(on: L, logits: L::V, bounds: Bounds, max: f32, scale: Scale) -> Self {
        let real = Self::new(on, on.sub(logits, on.splat(max)), scale);
        let (low, high) = (on.splat(bounds.low), on.splat(bounds.high));
        Self { power: on.between(logits, low, high, real.power, on.splat(NOTHING)), ..real }
    }

    /// The product as one float, rounded: for estimates.
    #[inline(always)]
    pub fn value(self, on: L) -> L::V {
        on.mul(self.part, self.power)
    }
}

/// A power of two so small that the weight rounds to zero, for tokens that are cut.
const NOTHING: f32 = 1.0 / (1u64 << 40) as f32;

/// The weight of a token `difference <= 0` below the row's maximum, by the operations of [`Real`];
/// -inf has weight 0.
#[must_use]
pub fn weight(difference: f32, scale: Scale) -> u64 {
    let difference = scale.clamped(difference);
    let shifted = difference.mul_add(scale.octaves_per_logit, ROUNDER);
    let f = difference.mul_add(scale.octaves_per_logit, ROUNDER - shifted);
    let p = POLYNOMIAL.into_iter().reduce(|p, coefficient| p.mul_add(f, coefficient));
    let shifted = shifted.to_bits();
    let power = (shifted << 20).wrapping_add(MANTISSAS[(shifted % 8) as usize]);
    // Exact: two floats' product is a double.
    let product = f64::from(p.unwrap_or(1.0)) * f64::from(f32::from_bits(power));
    product.round_ties_even() as u64
}

kernel! {
    /// The weights of listed tokens: a vector at a time, because outside a kernel a fused
    /// multiply-add is a function call.
    pub(crate) fn weigh(
        tokens: &[Candidate], max: f32, scale: Scale, out: &mut Vec<u64>,
    ) = weigh_body;
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
        let weights = Halves::new(on, Real::new(on, differences, scale)).values(on);
        out.extend_from_slice(&weights[..tokens.len()]);
    }
}

/// Weights, or sums of up to 1023 of them, in two words of 32 bits: the sum needs no wide lanes.
#[derive(Clone, Copy)]
pub(crate) struct Halves<L: Lanes> {
    pub high: L::I,
    pub low: L::I,
}

const _: () = assert!(HALF_BITS == WEIGHT_BITS / 2);

/// Weights that can be added before a half overflows.
pub(crate) const CAPACITY: usize = (1 << (31 - HALF_BITS)) - 1;

impl<L: Lanes> Halves<L> {
    #[inline(always)]
    pub fn zero(on: L) -> Self {
        Self { high: on.splat_int(0), low: on.splat_int(0) }
    }

    /// Rounds to integers.
    #[inline(always)]
    pub fn new(on: L, real: Real<L>) -> Self {
        Self::zero(on).raw_add(on, real).without_biases(on, 1)
    }

    /// Adds a weight, and with it the biases of [`Lanes::split`] once more.
    #[inline(always)]
    pub fn raw_add(self, on: L, real: Real<L>) -> Self {
        let (high, low) = on.split(real.part, real.power);
        Self { high: on.add_int(self.high, high), low: on.add_int(self.low, low) }
    }

    /// Subtracts the biases that `count` calls of [`Halves::raw_add`] have added.
    #[inline(always)]
    pub fn without_biases(self, on: L, count: usize) -> Self {
        let less = |bias: u32| on.splat_int(bias.wrapping_mul(count as u32).wrapping_neg());
        Self {
            high: on.add_int(self.high, less(HIGH_BIAS)),
            low: on.add_int(self.low, less(LOW_BIAS)),
        }
    }

    #[inline(always)]
    pub fn add(self, on: L, other: Self) -> Self {
        Self { high: on.add_int(self.high, other.high), low: on.add_int(self.low, other.low) }
    }

    /// The weight in each lane less `other`, as a float with the right sign.
    #[inline(always)]
    pub fn less(self, on: L, other: u64) -> L::V {
        let high = (other >> HALF_BITS) as u32;
        let low = (other % (1 << HALF_BITS)) as u32;
        let high = on.to_float(on.add_int(self.high, on.splat_int(high.wrapping_neg())));
        let low = on.to_float(on.add_int(self.low, on.splat_int(low.wrapping_neg())));
        on.fma(high, on.splat((1 << HALF_BITS) as f32), low)
    }

    /// The sum of all lanes, of fewer than [`CAPACITY`] weights in all, so that words of 32 bits
    /// are wide enough.
    #[inline(always)]
    pub fn total(self, on: L) -> u64 {
        let sum = |x: L::I| {
            i64::from(on.int_array(x).into_iter().fold(0, u32::wrapping_add).cast_signed())
        };
        ((sum(self.high) << HALF_BITS) + sum(self.low)) as u64
    }

    /// Each lane's value.
    #[inline(always)]
    pub fn values(self, on: L) -> [u64; LANES] {
        let (high, low) = (on.int_array(self.high), on.int_array(self.low));
        let signed = |x: u32| i64::from(x.cast_signed());
        std::array::from_fn(|i| ((signed(high[i]) << HALF_BITS) + signed(low[i])) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::{Halves, Real, Scale, WEIGHT_BITS, weight};
    use fastdecode_simd::Level;
    use fastdecode_simd::{LANES, Lanes, kernel};

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
        Halves::new(on, Real::new(on, on.load(differences), scale)).values(on)
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
                // Half a unit for rounding, the rest is relative.
                let error = ((got as f64 - exact).abs() - 0.5).max(0.0) / exact;
                worst = worst.max(error);
                // Rounding may swap two neighbours, by no more than two units in the
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
                assert!(((got - exact).abs() - 0.5) / exact < bound, "{temperature} {difference}");
            }
        }
    }
}
