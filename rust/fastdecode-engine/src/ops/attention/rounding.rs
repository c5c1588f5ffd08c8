//! Vectors of floats as integers.
//!
//! A vector has one scale s, its largest absolute value divided by 127. An element x becomes an integer h in
//! -127..=127, the nearest to x / s, and where that is not enough a second one, l, the nearest to
//! 254 (x / s - h), which lies in -127..=127 too: x is about s (h + l / 254). The same rounding to nearest, ties
//! to even, gives the same integers everywhere.

use crate::weights::{QUAD, scale_of};
use fastdecode_simd::{LANES, Lanes, Line, ROUNDER};

/// What the second integers are multiples of, in units of the first ones.
pub const FINE: f32 = 1.0 / STEPS;
const STEPS: f32 = 254.0;

/// The floats that a vector of this width takes in whole lines.
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// Sixteen floats in two integers each, as floats.
#[derive(Clone, Copy)]
pub struct Split<V> {
    pub high: V,
    pub low: V,
}

/// The integers of sixteen floats, by the inverse of their scale.
#[inline(always)]
pub fn split<L: Lanes>(l: L, x: L::V, inverse: L::V) -> Split<L::V> {
    let rounder = l.splat(ROUNDER);
    let scaled = l.mul(x, inverse);
    let high = l.sub(l.add(scaled, rounder), rounder);
    let rest = l.mul(l.sub(scaled, high), l.splat(STEPS));
    Split { high, low: l.sub(l.add(rest, rounder), rounder) }
}

/// Integers in -127..=127 that are given as floats. NaN, in a vector whose scale is NaN, may give anything.
#[inline(always)]
pub fn bytes<L: Lanes>(l: L, x: L::V) -> [i8; LANES] {
    let mut bytes = [0; LANES];
    for (to, byte) in bytes.iter_mut().zip(l.lowest_bytes(l.add(x, l.splat(ROUNDER)))) {
        *to = byte.cast_signed();
    }
    bytes
}

/// Four integers in a word, the first in the lowest byte.
#[inline(always)]
pub fn word(bytes: [i8; QUAD]) -> i32 {
    i32::from_le_bytes(bytes.map(i8::cast_unsigned))
}

/// The sums of the first integers and of the second ones, exactly.
#[inline(always)]
pub fn sums<L: Lanes>(l: L, x: Split<L::V>) -> [i32; 2] {
    // Both sums are below half of this, and so together a whole number that a float holds.
    const APART: f32 = 4096.0;
    let both = l.sum(l.fma(x.high, l.splat(APART), x.low)) as i32;
    let low = (both << 20) >> 20;
    [(both - low) >> 12, low]
}

/// The largest lane of sizes that `larger_size` has found. NaN is larger than every number.
#[inline(always)]
pub fn largest<L: Lanes>(l: L, sizes: L::V) -> f32 {
    let mut found = [0.0; LANES];
    l.store(sizes, &mut found);
    let mut largest = 0;
    for size in found {
        largest = largest.max(size.to_bits());
    }
    f32::from_bits(largest)
}

/// A vector as integers.
#[derive(Default)]
pub struct Rounded {
    x: Vec<Line>,
    high: Vec<i8>,
    low: Vec<i8>,
}

impl Rounded {
    /// Takes a vector. Returns its scale; the places after its elements are zeros.
    #[inline(always)]
    pub fn fill<L: Lanes>(&mut self, l: L, x: &[f32]) -> f32 {
        let count = padded(x.len());
        self.x.clear();
        self.high.clear();
        self.low.clear();
        let mut sizes = l.splat(0.0);
        for x in x.chunks(LANES) {
            let mut line = Line::ZERO;
            line.0[..x.len()].copy_from_slice(x);
            sizes = l.larger_size(sizes, l.load(&line.0));
            self.x.push(line);
        }
        let (scale, inverse) = scale_of(largest(l, sizes));
        let inverse = l.splat(inverse);
        self.high.resize(count, 0);
        self.low.resize(count, 0);
        let to = self.high.as_chunks_mut().0.iter_mut().zip(self.low.as_chunks_mut().0);
        for (line, (high, low)) in self.x.iter().zip(to) {
            let split = split(l, l.load(&line.0), inverse);
            *high = bytes(l, split.high);
            *low = bytes(l, split.low);
        }
        scale
    }

    /// The first integers of the first `count` elements.
    #[inline(always)]
    pub fn high(&self, count: usize) -> &[i8] {
        &self.high[..count]
    }

    /// The second ones.
    #[inline(always)]
    pub fn low(&self, count: usize) -> &[i8] {
        &self.low[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::{FINE, Rounded, Split, sums};
    use fastdecode_simd::Portable;

    #[test]
    fn sums_are_exact() {
        for [high, low] in [[127, 127], [127, -127], [-127, 127], [-127, -127], [1, 0], [0, -1]] {
            let split = Split { high: [high as f32; 16], low: [low as f32; 16] };
            assert_eq!(sums(Portable, split), [16 * high, 16 * low]);
        }
    }

    #[test]
    fn two_integers_are_within_their_step() {
        let x: Vec<f32> = (0..77).map(|i| ((i * 7919) % 1013) as f32 * 0.37 - 187.0).collect();
        let mut rounded = Rounded::default();
        let scale = rounded.fill(Portable, &x);
        let integers = rounded.high(77).iter().zip(rounded.low(77));
        for ((high, low), x) in integers.zip(&x) {
            let (high, low) = (f32::from(*high), f32::from(*low));
            assert!((high * scale - x).abs() <= 0.50001 * scale);
            assert!(((high + low * FINE) * scale - x).abs() <= 0.5001 * scale * FINE);
        }
        assert_eq!(rounded.high(80)[77..], [0; 3]);
        assert_eq!(rounded.fill(Portable, &[0.0; 3]).to_bits(), 0.0f32.to_bits());
        assert_eq!(rounded.high(3), [0; 3]);
        assert!(rounded.fill(Portable, &[1.0, f32::NAN, 0.0]).is_nan());
        assert!(rounded.fill(Portable, &[1.0, f32::INFINITY]).is_nan());
    }

    #[test]
    fn no_integer_is_beyond_127() {
        let mut rounded = Rounded::default();
        for i in 0..100_000u32 {
            let x = f32::from_bits(0x3F80_0000 + i * 83);
            rounded.fill(Portable, &[x, -x, x * 0.999_999_9, x * 0.5, x * 1.5 / 127.0]);
            let all = rounded.high(5).iter().chain(rounded.low(5));
            assert!(all.copied().all(|byte| byte > -128));
        }
    }
}
