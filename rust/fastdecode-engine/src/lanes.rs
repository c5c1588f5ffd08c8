//! Sixteen float32 lanes, on each instruction set.
//!
//! Every kernel of this crate is written once over [`Lanes`] and compiled for each level. All of
//! its operations are IEEE operations a lane, so that the levels give the same bits: a vector of 16
//! is one AVX-512 register, two of AVX2, four of NEON, or an array. Plain loops over arrays were tried
//! first; the compiler turned some heights of the register tile into scalar code, forty times as slow.

use std::fmt::Debug;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// One cache line: a vector in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

impl Line {
    /// Zeros.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// Its words, for what is no float.
    #[inline(always)]
    #[must_use]
    pub fn words(&self) -> &[u32; LANES] {
        // SAFETY: of the same size, and a float's bits are a word; the words' alignment is less.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// The same, to write.
    #[inline(always)]
    pub fn words_mut(&mut self) -> &mut [u32; LANES] {
        // SAFETY: as above, and any word is a float's bits.
        unsafe { &mut *(&raw mut self.0).cast() }
    }

    /// Its bytes.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8; 4 * LANES] {
        // SAFETY: of the same size, without padding.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// The same, to write.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8; 4 * LANES] {
        // SAFETY: as above, and any bytes are floats.
        unsafe { &mut *(&raw mut self.0).cast() }
    }
}

/// Adding this rounds a small float to an integer, ties to even, and leaves it in the low bits.
pub const ROUNDER: f32 = 12_582_912.0;

/// The operations of one instruction set. A value of the type is the proof that the CPU has it.
pub trait Lanes: Copy {
    /// Sixteen floats.
    type V: Copy + Debug;
    /// Vectors across in a register tile, 1 or 2.
    const ACROSS: usize;
    /// Rows in a register tile: with `ACROSS` vectors each they fit in the registers.
    const ROWS: usize;
    /// Where `ACROSS` is 1: rows up to which there may be two vectors across.
    const ROWS_OF_TWO: usize = Self::ROWS / 2;
    /// Vectors across of one row, 2 or 4.
    const LONE: usize = 4;

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
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a > b ? a : b
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? a : b
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// 2^n, for a vector that holds `ROUNDER + n` with n in -126..=127.
    fn power_of_two(self, shifted: Self::V) -> Self::V;

    /// The low halves of words, which hold two bfloat16 each, as floats.
    fn low_halves(self, line: &Line) -> Self::V;
    /// The high halves.
    fn high_halves(self, line: &Line) -> Self::V;

    /// The elements of an array, and zeros in the lanes behind them.
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V;
    /// The bits of the first lanes.
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]);
    /// The larger of a, which has no sign, and b without its sign; NaN is larger than all else.
    fn larger_size(self, a: Self::V, b: Self::V) -> Self::V;
    /// Words of the lowest bytes of four vectors, the first vector's lowest.
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V;

    /// Asks for a line that will be read soon. Changes nothing, and any address may be asked for.
    #[inline(always)]
    fn prefetch(self, _line: *const Line) {}

    /// The same, into the first cache.
    #[inline(always)]
    fn prefetch_soon(self, _line: *const Line) {}

    /// The sum of the lanes, always by the same tree: halves onto halves.
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

/// What every target has: an array, and the compiler's own vectors.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = a;
    for (x, y) in out.iter_mut().zip(b) {
        *x = f(*x, y);
    }
    out
}

impl Lanes for Portable {
    type V = [f32; LANES];
    const ACROSS: usize = 1;
    const ROWS: usize = 6;

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
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x / y)
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
    fn low_halves(self, line: &Line) -> Self::V {
        line.words().map(|word| f32::from_bits(word << 16))
    }
    #[inline(always)]
    fn high_halves(self, line: &Line) -> Self::V {
        line.words().map(|word| f32::from_bits(word & 0xFFFF_0000))
    }
    #[inline(always)]
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V {
        let mut out = [0.0; LANES];
        out[..R].copy_from_slice(from);
        out
    }
    #[inline(always)]
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]) {
        for (to, v) in to.iter_mut().zip(v) {
            *to = v.to_bits().cast_signed();
        }
    }
    #[inline(always)]
    fn larger_size(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| f32::from_bits(a.to_bits().max(b.to_bits() & 0x7FFF_FFFF)))
    }
    #[inline(always)]
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        let mut out = [0.0; LANES];
        for (i, out) in out.iter_mut().enumerate() {
            *out = f32::from_bits(u32::from_le_bytes(v.map(|v| v[i].to_bits() as u8)));
        }
        out
    }
    #[inline(always)]
    fn power_of_two(self, shifted: Self::V) -> Self::V {
        shifted.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(0x3F80_0000)))
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

/// Declares `fn $name(level, arguments)`, which runs the `#[inline(always)]` function `$body`,
/// generic over [`Lanes`], compiled for `level`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path;) => {
        $(#[$meta])*
        $vis fn $name(level: fastdecode_core::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2($($arg: $ty),*) {
                    // SAFETY: this function is compiled for AVX2 and FMA.
                    $body(unsafe { $crate::lanes::Avx2::new() }, $($arg),*);
                }
                #[target_feature(
                    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt"
                )]
                fn avx512($($arg: $ty),*) {
                    // SAFETY: this function is compiled for AVX-512.
                    $body(unsafe { $crate::lanes::Avx512::new() }, $($arg),*);
                }
                debug_assert!(level.is_available());
                match level {
                    // SAFETY: the engine takes a level only after `Level::is_available`; every CPU
                    // with AVX2 has BMI, LZCNT and POPCNT.
                    fastdecode_core::Level::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    fastdecode_core::Level::Avx512 => unsafe { avx512($($arg),*) },
                    fastdecode_core::Level::Portable => $body($crate::lanes::Portable, $($arg),*),
                }
            }
            #[cfg(target_arch = "aarch64")]
            match level {
                fastdecode_core::Level::Neon => $body($crate::lanes::Neon, $($arg),*),
                fastdecode_core::Level::Portable => $body($crate::lanes::Portable, $($arg),*),
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                let fastdecode_core::Level::Portable = level;
                $body($crate::lanes::Portable, $($arg),*);
            }
        }
    };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests;
