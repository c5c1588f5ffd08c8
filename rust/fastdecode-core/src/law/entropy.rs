//! Shannon entropy of a law, from integer sums alone, so that neither lanes nor padding nor the
//! representation of the survivors can change it.

use crate::law::bounds::Bounds;
use crate::law::weight::{Halves, Real, Scale, WEIGHT_BITS};
use crate::law::{BLOCK, Law};
use crate::math::ln::ln;
use fastdecode_simd::{HALF_BITS, LANES, Lanes, kernel};
use std::cmp::Ordering;

/// A token's depth is its distance below the maximum in octaves, in these units (a power of two,
/// so that the product is exact).
const UNITS: f32 = (1u32 << 20) as f32;

/// The sums that the entropy is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entropy {
    /// Sum of weight times depth.
    pub moment: u128,
    /// Sum of weights, W.
    pub weight: u64,
    /// Tokens with a weight above zero.
    pub tokens: u64,
}

/// The depth of a token `difference <= 0` below the maximum: monotone, below 2^27.
pub(crate) fn depth(difference: f32, scale: Scale) -> u32 {
    (-scale.octave(difference) * UNITS) as u32
}

impl Entropy {
    /// Adds a token.
    pub fn add(&mut self, weight: u64, depth: u32) {
        self.moment += u128::from(weight) * u128::from(depth);
        self.weight += weight;
        self.tokens += u64::from(weight > 0);
    }

    /// The sums over a law's survivors.
    pub fn of(law: &Law) -> Self {
        let mut sum = Self::default();
        for start in (0..law.row.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(law.row.len());
            for (from, to, bounds) in law.stretches(start, end) {
                let part = moments(law.level, &law.row[from..to], bounds, law.max, law.scale);
                sum.moment += part.moment;
                sum.weight += part.weight;
                sum.tokens += part.tokens;
            }
        }
        sum
    }

    /// In nats, within 2e-6.
    #[must_use]
    pub fn nats(self) -> f64 {
        // -ln p of a token at depth 0; each further octave adds ln 2.
        let least = ln(self.weight) - ln(1 << WEIGHT_BITS);
        let mean_depth = self.moment as f64 / (self.weight as f64 * f64::from(UNITS));
        // A law of one token has entropy 0; rounding may not make it -1e-17.
        (least + mean_depth * std::f64::consts::LN_2).max(0.0)
    }

    /// The order of depths by their distance from the mean.
    pub fn distances(self) -> Distances {
        // The mean is a fraction: `floor` and `rest / weight`.
        let floor = self.moment / u128::from(self.weight);
        let rest = self.moment % u128::from(self.weight);
        Distances {
            floor: floor as u32,
            below: u32::from(rest > 0),
            above: match (2 * rest).cmp(&u128::from(self.weight)) {
                Ordering::Less => 0,
                Ordering::Equal => 1,
                Ordering::Greater => 2,
            },
        }
    }
}

/// Numbers in the order of depths' distances from a mean, equal where those are equal.
///
/// With the mean m + r (r its fraction), m - a is at the distance a + r and m + b at b - r. So
/// distances below and above the mean alternate, and which comes first depends on whether r is less
/// than a half.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distances {
    floor: u32,
    below: u32,
    above: u32,
}

impl Distances {
    /// The position of a depth in this order.
    #[inline(always)]
    pub fn of(self, depth: u32) -> u32 {
        if self.is_above(depth) {
            2 * (depth - self.floor) - self.above
        } else {
            2 * (self.floor - depth) + self.below
        }
    }

    /// Whether a depth is above the mean; there distances grow with it.
    pub fn is_above(self, depth: u32) -> bool {
        depth > self.floor
    }
}

kernel! {
    fn moments(span: &[f32], bounds: Bounds, max: f32, scale: Scale) -> Entropy = moments_body;
}

/// The sums over at most [`BLOCK`] logits, so that the sums of lanes fit: 2^21 * 2^27 * 32 < 2^63.
#[inline(always)]
fn moments_body<L: Lanes>(on: L, span: &[f32], bounds: Bounds, max: f32, scale: Scale) -> Entropy {
    let mut sum = Entropy::default();
    let mut weights = Halves::zero(on);
    let mut high = [0i64; LANES];
    let mut low = [0i64; LANES];
    for chunk in span.chunks(LANES) {
        let logits = on.load_part(chunk, f32::NEG_INFINITY);
        let real = Real::bounded(on, logits, bounds, max, scale);
        let halves = Halves::new(on, real);
        let octaves = scale.octaves(on, on.sub(logits, on.splat(max)));
        let depths = on.int_array(on.truncate(on.mul(octaves, on.splat(-UNITS))));
        let (highs, lows) = (on.int_array(halves.high), on.int_array(halves.low));
        for lane in 0..LANES {
            let signed = |x: u32| i64::from(x.cast_signed());
            high[lane] += signed(highs[lane]) * signed(depths[lane]);
            low[lane] += signed(lows[lane]) * signed(depths[lane]);
        }
        weights = weights.add(on, halves);
        sum.tokens += u64::from(on.at_least(halves.less(on, 1), on.splat(0.0)).count_ones());
    }
    sum.weight = weights.total(on);
    for lane in 0..LANES {
        let moment = (i128::from(high[lane]) << HALF_BITS) + i128::from(low[lane]);
        sum.moment += moment.cast_unsigned();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::Entropy;
    use crate::law::Law;
    use crate::law::weight::Scale;
    use fastdecode_simd::Level;

    #[test]
    fn of_known_laws() {
        for level in Level::available() {
            for (row, expected) in [
                (vec![0.0; 1000], 1000f64.ln()),
                (vec![3.0], 0.0),
                (vec![5.0, f32::NEG_INFINITY, f32::NEG_INFINITY], 0.0),
                (vec![0.0, -1e30], 0.0),
                (vec![1.0, 1.0 + 3f32.ln()], 4f64.ln() - 0.75 * 3f64.ln()),
            ] {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let law = Law::whole(level, &row, max, Scale::new(1.0));
                let got = Entropy::of(&law).nats();
                assert!((got - expected).abs() < 2e-6, "{got} for {expected}");
            }
        }
    }

    #[test]
    fn tokens_without_weight_are_not_counted() {
        let mut sum = Entropy::default();
        for (weight, depth) in [(3, 2), (0, 1 << 26), (1, 0)] {
            sum.add(weight, depth);
        }
        assert_eq!((sum.tokens, sum.weight, sum.moment), (2, 4, 6));
        for level in Level::available() {
            let law =
                Law::whole(level, &[0.0, -1.0, -100.0, f32::NEG_INFINITY], 0.0, Scale::new(1.0));
            assert_eq!(Entropy::of(&law).tokens, 2);
        }
    }

    #[test]
    fn distances_are_in_the_order_of_exact_ones() {
        for weight in 1..8u64 {
            for moment in 0..40u128 {
                let entropy = Entropy { moment, weight, tokens: 1 };
                let exact = |d: u32| (u128::from(d) * u128::from(weight)).abs_diff(moment);
                let distances = entropy.distances();
                for (a, b) in (0..50).flat_map(|a| (0..50).map(move |b| (a, b))) {
                    let found = distances.of(a).cmp(&distances.of(b));
                    assert_eq!(found, exact(a).cmp(&exact(b)), "{a} {b} {moment} / {weight}");
                }
            }
        }
    }
}
