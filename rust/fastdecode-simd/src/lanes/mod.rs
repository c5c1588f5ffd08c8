//! Sixteen float32 lanes, on each instruction set.
//!
//! A vector is one AVX-512 register, two of AVX2, four of NEON, or an array. Every operation is an IEEE
//! or integer operation on each lane, so all levels give the same bits. Kernels are written with these
//! instead of plain loops over arrays, because whether a compiler vectorises a loop depends on details
//! far away from it.

use crate::line::{LANES, Line};

mod portable;
pub use portable::Portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub use {avx2::Avx2, avx512::Avx512};

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;

/// Adding this to a float between -2^22 and 2^22 rounds it to an integer, ties to even, and leaves that
/// integer in the low bits.
pub const ROUNDER: f32 = 1.5 * (1u64 << 23) as f32;

/// Bits of a half in [`Lanes::split`].
pub const HALF_BITS: u32 = 21;
/// Adding this to a float in 0..=2^42 rounds it to a multiple of 2^21, and leaves the multiple in the low
/// bits.
const HIGH_ROUNDER: f32 = 1.5 * (1u64 << (23 + HALF_BITS)) as f32;
/// What [`Lanes::split`] adds to the upper halves.
pub const HIGH_BIAS: u32 = HIGH_ROUNDER.to_bits();
/// What [`Lanes::split`] adds to the lower halves.
pub const LOW_BIAS: u32 = ROUNDER.to_bits();

/// What the bits of a float16 without its sign, moved to where a float has its exponent, are multiplied by.
const FLOAT16_SCALE: f32 = f32::from_bits((127 + 112) << 23);
/// The bits of a float16 in a high half, without its sign.
const FLOAT16_SIZE: u32 = 0x7FFF_0000;

/// The operations of one instruction set. A value of the type is the proof that the processor has it.
pub trait Lanes: Copy {
    /// Sixteen floats.
    type V: Copy;
    /// Sixteen integers of 32 bits.
    type I: Copy;

    /// The same float in each lane.
    fn splat(self, x: f32) -> Self::V;
    /// Floats from memory.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// Floats to memory.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// The elements of an array, and zeros in the lanes after them.
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V;
    /// The bits of the first lanes, to memory.
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]);

    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a > b ? a : b
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? a : b
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Of two floats, the one with the lesser bits: of floats with the same sign, the one nearer to zero.
    fn nearer(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger of `a`, which is not negative, and |b|. NaN is larger than every number.
    fn larger_size(self, a: Self::V, b: Self::V) -> Self::V;

    /// a >= b, one bit for each lane.
    fn at_least(self, a: Self::V, b: Self::V) -> u16;
    /// x >= low ? yes : 0
    fn reaching(self, x: Self::V, low: Self::V, yes: Self::V) -> Self::V;
    /// low <= x <= high ? yes : no
    fn between(self, x: Self::V, low: Self::V, high: Self::V, yes: Self::V, no: Self::V)
    -> Self::V;

    /// The same integer in each lane.
    fn splat_int(self, x: u32) -> Self::I;
    /// Integers from memory.
    fn load_int(self, from: &[u32; LANES]) -> Self::I;
    /// Integers to memory.
    fn store_int(self, i: Self::I, to: &mut [u32; LANES]);
    /// a + b, wrapping
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// a & b
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// i << 20: an integer number of eighths, into a float's exponent and the three bits below it.
    fn to_exponent(self, i: Self::I) -> Self::I;
    /// Table look-up: the entries of `table`, which repeats its first eight, at the indices modulo 8.
    fn eighths(self, table: Self::I, i: Self::I) -> Self::I;

    /// The bits of floats, as integers.
    fn bits(self, v: Self::V) -> Self::I;
    /// The floats with these bits.
    fn of_bits(self, i: Self::I) -> Self::V;
    /// The integer part of floats in 0..2^31.
    fn truncate(self, v: Self::V) -> Self::I;
    /// Signed integers as floats, exact between -2^24 and 2^24.
    fn to_float(self, i: Self::I) -> Self::V;
    /// 2^n, for a vector that holds `ROUNDER + n` with n in -126..=127.
    fn power_of_two(self, shifted: Self::V) -> Self::V;
    /// The low halves of words that hold two bfloat16 each, as floats.
    fn low_halves(self, line: &Line) -> Self::V;
    /// The high halves of such words.
    fn high_halves(self, line: &Line) -> Self::V;
    /// The float16 in the high halves of words whose low halves are zeros, as floats. Infinities and NaN
    /// become finite.
    fn float16(self, v: Self::V) -> Self::V;
    /// Words made of the lowest bytes of four vectors, the first vector's byte lowest.
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V;

    /// The lowest byte of each lane.
    #[inline(always)]
    fn lowest_bytes(self, v: Self::V) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        for (byte, x) in bytes.iter_mut().zip(self.array(v)) {
            *byte = x.to_bits() as u8;
        }
        bytes
    }

    /// Stores the lanes whose bits are set, packed from the first place on, and returns their number.
    /// The rest of `to` is unspecified.
    fn compress(self, v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize;
    /// [`Lanes::compress`] for integers.
    fn compress_int(self, i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize;

    /// Prefetches a cache line into the second-level cache. Any address may be given.
    #[inline(always)]
    fn prefetch_l2(self, _line: *const Line) {}
    /// Prefetches a cache line into the first-level cache. Any address may be given.
    #[inline(always)]
    fn prefetch_l1(self, _line: *const Line) {}

    /// The integer nearest to the exact `a * b`, a product in 0..=2^42, ties to even, in two halves:
    /// a multiple of 2^21, and the rest, between -2^20 and 2^20, as signed integers with the biases
    /// added. Both sums are rounded once, and the step between them is exact.
    #[inline(always)]
    fn split(self, a: Self::V, b: Self::V) -> (Self::I, Self::I) {
        let high = self.fma(a, b, self.splat(HIGH_ROUNDER));
        // ROUNDER less the upper half.
        let rest = self.sub(self.splat(HIGH_ROUNDER + ROUNDER), high);
        (self.bits(high), self.bits(self.fma(a, b, rest)))
    }

    /// Up to sixteen floats from memory; `other` fills the remaining lanes.
    #[inline(always)]
    fn load_part(self, from: &[f32], other: f32) -> Self::V {
        let mut all = [other; LANES];
        all[..from.len()].copy_from_slice(from);
        self.load(&all)
    }

    /// The lanes as an array.
    #[inline(always)]
    fn array(self, v: Self::V) -> [f32; LANES] {
        let mut to = [0.0; LANES];
        self.store(v, &mut to);
        to
    }

    /// The lanes as an array.
    #[inline(always)]
    fn int_array(self, i: Self::I) -> [u32; LANES] {
        let mut to = [0; LANES];
        self.store_int(i, &mut to);
        to
    }

    /// The sum of the lanes, always by the same tree: the upper half onto the lower, and so on.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let mut x = [0.0; LANES];
        self.store(v, &mut x);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                x[i] += x[i + width];
            }
            width /= 2;
        }
        x[0]
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let mut x = [0.0; LANES];
        self.store(v, &mut x);
        let mut best = x[0];
        for &value in &x[1..] {
            if value > best {
                best = value;
            }
        }
        best
    }
}

/// The sum of all lanes of `vectors` vectors, each given by its number. It keeps four sums, so that one
/// addition need not wait for the one before.
#[inline(always)]
pub fn sum_of<L: Lanes>(on: L, vectors: usize, mut vector: impl FnMut(usize) -> L::V) -> f32 {
    let mut sums = [on.splat(0.0); 4];
    let fours = vectors / sums.len() * sums.len();
    for i in (0..fours).step_by(sums.len()) {
        for (j, sum) in sums.iter_mut().enumerate() {
            *sum = on.add(*sum, vector(i + j));
        }
    }
    for i in fours..vectors {
        sums[0] = on.add(sums[0], vector(i));
    }
    let sum = on.add(on.add(sums[0], sums[1]), on.add(sums[2], sums[3]));
    on.array(sum).into_iter().sum()
}

/// The chosen elements of `from`, one by one.
#[inline(always)]
fn compress_each<T: Copy>(from: [T; LANES], mut bits: u16, to: &mut [T; LANES]) -> usize {
    let mut count = 0;
    while bits != 0 {
        to[count] = from[bits.trailing_zeros() as usize];
        count += 1;
        bits &= bits - 1;
    }
    count
}

#[cfg(test)]
mod tests;
