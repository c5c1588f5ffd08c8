//! Sixteen float32 lanes, on each instruction set.
//!
//! Every kernel is written once over [`Lanes`] and compiled for each level. All operations are IEEE
//! or integer operations a lane, so the levels give the same bits. Plain loops over arrays were
//! tried first: whether the compiler makes vectors of them turned on details far away, and where
//! it did not a pass took ten times as long.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Bits of a half in [`Lanes::split`].
pub const HALF_BITS: u32 = 21;

/// Adding this to a float in 0..=2^42 rounds it to a multiple of 2^21, and leaves that in the low
/// bits.
const HIGH_ROUNDER: f32 = 1.5 * (1u64 << (23 + HALF_BITS)) as f32;
/// The same for integers between -2^22 and 2^22.
const LOW_ROUNDER: f32 = 1.5 * (1u64 << 23) as f32;
/// What [`Lanes::split`] adds to the upper halves.
pub const HIGH_BIAS: u32 = HIGH_ROUNDER.to_bits();
/// What [`Lanes::split`] adds to the lower halves.
pub const LOW_BIAS: u32 = LOW_ROUNDER.to_bits();

/// The operations of one instruction set. A value of the type is the proof that the CPU has it.
pub trait Lanes: Copy {
    /// Sixteen floats.
    type V: Copy;
    /// Sixteen integers of 32 bits.
    type I: Copy;

    /// The same value in each lane.
    fn splat(self, x: f32) -> Self::V;
    /// From memory.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// To memory.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a > b ? a : b
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? a : b
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// a >= b, a bit a lane
    fn at_least(self, a: Self::V, b: Self::V) -> u16;
    /// x >= low ? yes : 0
    fn reaching(self, x: Self::V, low: Self::V, yes: Self::V) -> Self::V;
    /// low <= x <= high ? yes : no
    fn between(self, x: Self::V, low: Self::V, high: Self::V, yes: Self::V, no: Self::V)
    -> Self::V;
    /// The bits as integers.
    fn bits(self, v: Self::V) -> Self::I;
    /// The floats with these bits.
    fn of_bits(self, i: Self::I) -> Self::V;
    /// The one whose bits are less, of floats without a sign or with one: the one nearer to zero.
    fn nearer(self, a: Self::V, b: Self::V) -> Self::V;
    /// i << 20: eighths of octaves into a float's exponent, with the eighths below it.
    fn to_exponent(self, i: Self::I) -> Self::I;
    /// Of a table that repeats its first eight numbers, those at the indices modulo 8.
    fn eighths(self, table: Self::I, i: Self::I) -> Self::I;
    /// The same integer in each lane.
    fn splat_int(self, x: u32) -> Self::I;
    /// From memory.
    fn load_int(self, from: &[u32; LANES]) -> Self::I;
    /// a + b, wrapping
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// a & b
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// The integer part of lanes in 0..2^31.
    fn truncate(self, v: Self::V) -> Self::I;
    /// Signed integers as floats, exact between -2^24 and 2^24.
    fn to_float(self, i: Self::I) -> Self::V;
    /// To memory.
    fn store_int(self, i: Self::I, to: &mut [u32; LANES]);
    /// The lanes whose bits are set, from the first on; how many they are. What follows them in
    /// `to` is anything.
    fn compress(self, v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize;
    /// [`Lanes::compress`] of integers.
    fn compress_int(self, i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize;

    /// The integer nearest to the exact `a * b`, a product in 0..=2^42, ties to even, in two parts:
    /// a multiple of 2^21, and the rest, between -2^20 and 2^20, as signed integers with the
    /// biases added. Both sums are rounded once, and what is between them is exact.
    #[inline(always)]
    fn split(self, a: Self::V, b: Self::V) -> (Self::I, Self::I) {
        let high = self.fma(a, b, self.splat(HIGH_ROUNDER));
        // LOW_ROUNDER less the upper part.
        let rest = self.sub(self.splat(HIGH_ROUNDER + LOW_ROUNDER), high);
        (self.bits(high), self.bits(self.fma(a, b, rest)))
    }

    /// Up to sixteen floats; `other` fills the rest.
    #[inline(always)]
    fn load_part(self, from: &[f32], other: f32) -> Self::V {
        let mut all = [other; LANES];
        all[..from.len()].copy_from_slice(from);
        self.load(&all)
    }

    /// The lanes in memory.
    #[inline(always)]
    fn array(self, v: Self::V) -> [f32; LANES] {
        let mut to = [0.0; LANES];
        self.store(v, &mut to);
        to
    }

    /// The lanes in memory.
    #[inline(always)]
    fn int_array(self, i: Self::I) -> [u32; LANES] {
        let mut to = [0; LANES];
        self.store_int(i, &mut to);
        to
    }
}

/// The sum of all lanes of so many vectors, each asked for by its number.
#[inline(always)]
pub(crate) fn sum_of<L: Lanes>(
    on: L,
    vectors: usize,
    mut vector: impl FnMut(usize) -> L::V,
) -> f32 {
    // Four sums, so that they need not wait for each other.
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

/// What every target has: an array, and the compiler's own vectors.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn zip<T: Copy>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    let mut out = a;
    for (x, y) in out.iter_mut().zip(b) {
        *x = f(*x, y);
    }
    out
}

/// The chosen of `from`, one by one.
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

impl Lanes for Portable {
    type V = [f32; LANES];
    type I = [u32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        *from
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        for i in 0..LANES {
            out[i] = a[i].mul_add(b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    fn at_least(self, a: Self::V, b: Self::V) -> u16 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u16::from(a[i] >= b[i]) << i;
        }
        bits
    }
    #[inline(always)]
    fn reaching(self, x: Self::V, low: Self::V, yes: Self::V) -> Self::V {
        let mut out = yes;
        for i in 0..LANES {
            out[i] = if x[i] >= low[i] { yes[i] } else { 0.0 };
        }
        out
    }
    #[inline(always)]
    fn between(
        self,
        x: Self::V,
        low: Self::V,
        high: Self::V,
        yes: Self::V,
        no: Self::V,
    ) -> Self::V {
        let mut out = no;
        for i in 0..LANES {
            out[i] = if x[i] >= low[i] && x[i] <= high[i] { yes[i] } else { no[i] };
        }
        out
    }
    #[inline(always)]
    fn bits(self, v: Self::V) -> Self::I {
        v.map(f32::to_bits)
    }
    #[inline(always)]
    fn of_bits(self, i: Self::I) -> Self::V {
        i.map(f32::from_bits)
    }
    #[inline(always)]
    fn nearer(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| f32::from_bits(x.to_bits().min(y.to_bits())))
    }
    #[inline(always)]
    fn to_exponent(self, i: Self::I) -> Self::I {
        i.map(|x| x << 20)
    }
    #[inline(always)]
    fn eighths(self, table: Self::I, i: Self::I) -> Self::I {
        i.map(|x| table[(x % 8) as usize])
    }
    #[inline(always)]
    fn splat_int(self, x: u32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn load_int(self, from: &[u32; LANES]) -> Self::I {
        *from
    }
    #[inline(always)]
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |x, y| x & y)
    }
    #[inline(always)]
    fn truncate(self, v: Self::V) -> Self::I {
        v.map(|x| x as i32 as u32)
    }
    #[inline(always)]
    fn to_float(self, i: Self::I) -> Self::V {
        i.map(|x| x.cast_signed() as f32)
    }
    #[inline(always)]
    fn store_int(self, i: Self::I, to: &mut [u32; LANES]) {
        *to = i;
    }
    #[inline(always)]
    fn compress(self, v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize {
        compress_each(v, bits, to)
    }
    #[inline(always)]
    fn compress_int(self, i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize {
        compress_each(i, bits, to)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;

/// Declares `fn $name(level, arguments) -> ret`, which runs the `#[inline(always)]` function
/// `$body`, generic over [`Lanes`], compiled for `level`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $body:path;) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::level::Level, $($arg: $ty),*) -> $ret {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2($($arg: $ty),*) -> $ret {
                    // SAFETY: this function is compiled for AVX2 and FMA.
                    $body(unsafe { $crate::lanes::Avx2::new() }, $($arg),*)
                }
                #[target_feature(
                    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt"
                )]
                fn avx512($($arg: $ty),*) -> $ret {
                    // SAFETY: this function is compiled for AVX-512.
                    $body(unsafe { $crate::lanes::Avx512::new() }, $($arg),*)
                }
                debug_assert!(level.is_available());
                match level {
                    // SAFETY: a level other than Portable is only ever made by `Level::detect` or
                    // after `Level::is_available`; every CPU with AVX2 has BMI, LZCNT and POPCNT.
                    $crate::level::Level::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::level::Level::Avx512 => unsafe { avx512($($arg),*) },
                    $crate::level::Level::Portable => $body($crate::lanes::Portable, $($arg),*),
                }
            }
            #[cfg(target_arch = "aarch64")]
            match level {
                $crate::level::Level::Neon => $body($crate::lanes::Neon, $($arg),*),
                $crate::level::Level::Portable => $body($crate::lanes::Portable, $($arg),*),
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                let $crate::level::Level::Portable = level;
                $body($crate::lanes::Portable, $($arg),*)
            }
        }
    };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests;
