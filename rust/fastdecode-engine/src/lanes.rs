//! Sixteen float32 lanes, on each instruction set.
//!
//! Every kernel of this crate is written once over [`Lanes`] and compiled for each level. All of
//! its operations are IEEE operations a lane, so that the levels give the same bits: a vector of 16
//! is one AVX-512 register, two of AVX2, or an array. Plain loops over arrays were tried first; the
//! compiler turned some heights of the register tile into scalar code, forty times as slow.

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

    /// Asks for a line that will be read soon; changes nothing.
    #[inline(always)]
    fn prefetch(self, _line: &Line) {}

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
    fn power_of_two(self, shifted: Self::V) -> Self::V {
        shifted.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(0x3F80_0000)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    // SAFETY of every block in this module: the intrinsics need nothing but the CPU features, and
    // a value of the type is only made by `new`, whose caller has made sure of them. Loads and
    // stores are unaligned ones, over references to 16 floats.
    use super::{LANES, Lanes, Line};
    use std::arch::x86_64::{
        __m256, __m512, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps,
        _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_div_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_set1_epi32,
        _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_epi32,
        _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_div_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    };

    /// AVX-512: one register.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx512(());

    /// AVX2 and FMA: two registers.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx2(());

    impl Avx512 {
        /// # Safety
        /// The CPU has what `Level::Avx512` names, and the caller is compiled for it.
        #[inline(always)]
        #[must_use]
        pub unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Avx2 {
        /// # Safety
        /// The CPU has AVX2 and FMA, and the caller is compiled for them.
        #[inline(always)]
        #[must_use]
        pub unsafe fn new() -> Self {
            Self(())
        }
    }

    macro_rules! avx512 {
        ($($name:ident = $intrinsic:ident($($arg:ident),*);)*) => {
            $(#[inline(always)]
            fn $name(self, $($arg: Self::V),*) -> Self::V {
                // SAFETY: see the head of the module.
                unsafe { $intrinsic($($arg),*) }
            })*
        };
    }

    impl Lanes for Avx512 {
        #[inline(always)]
        fn prefetch(self, line: &Line) {
            // SAFETY: see the head of the module.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.0.as_ptr().cast()) };
        }
        type V = __m512;
        const ACROSS: usize = 2;
        const ROWS: usize = 12;

        #[inline(always)]
        fn splat(self, x: f32) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, v: Self::V, to: &mut [f32; LANES]) {
            // SAFETY: see the head of the module.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
        }
        avx512! {
            add = _mm512_add_ps(a, b);
            sub = _mm512_sub_ps(a, b);
            mul = _mm512_mul_ps(a, b);
            div = _mm512_div_ps(a, b);
            max = _mm512_max_ps(a, b);
            min = _mm512_min_ps(a, b);
            fma = _mm512_fmadd_ps(a, b, c);
        }
        #[inline(always)]
        fn low_halves(self, line: &Line) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe {
                let words = _mm512_castps_si512(_mm512_loadu_ps(line.0.as_ptr()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
            }
        }
        #[inline(always)]
        fn high_halves(self, line: &Line) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe {
                let words = _mm512_castps_si512(_mm512_loadu_ps(line.0.as_ptr()));
                let mask = _mm512_set1_epi32(0xFFFF_0000u32.cast_signed());
                _mm512_castsi512_ps(_mm512_and_si512(words, mask))
            }
        }
        #[inline(always)]
        fn power_of_two(self, shifted: Self::V) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe {
                let bits = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
                _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3F80_0000)))
            }
        }
    }

    macro_rules! avx2 {
        ($($name:ident = $intrinsic:ident($($arg:ident),*);)*) => {
            $(#[inline(always)]
            fn $name(self, $($arg: Self::V),*) -> Self::V {
                // SAFETY: see the head of the module.
                unsafe { [$intrinsic($($arg[0]),*), $intrinsic($($arg[1]),*)] }
            })*
        };
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn prefetch(self, line: &Line) {
            // SAFETY: see the head of the module.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.0.as_ptr().cast()) };
        }
        type V = [__m256; 2];
        const ACROSS: usize = 1;
        const ROWS: usize = 6;

        #[inline(always)]
        fn splat(self, x: f32) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
        }
        #[inline(always)]
        fn store(self, v: Self::V, to: &mut [f32; LANES]) {
            // SAFETY: see the head of the module.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
            }
        }
        avx2! {
            add = _mm256_add_ps(a, b);
            sub = _mm256_sub_ps(a, b);
            mul = _mm256_mul_ps(a, b);
            div = _mm256_div_ps(a, b);
            max = _mm256_max_ps(a, b);
            min = _mm256_min_ps(a, b);
            fma = _mm256_fmadd_ps(a, b, c);
        }
        #[inline(always)]
        fn low_halves(self, line: &Line) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe {
                let [a, b] = self.load(&line.0);
                let a = _mm256_slli_epi32::<16>(_mm256_castps_si256(a));
                let b = _mm256_slli_epi32::<16>(_mm256_castps_si256(b));
                [_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)]
            }
        }
        #[inline(always)]
        fn high_halves(self, line: &Line) -> Self::V {
            // SAFETY: see the head of the module.
            unsafe {
                let [a, b] = self.load(&line.0);
                let mask = _mm256_set1_epi32(0xFFFF_0000u32.cast_signed());
                let a = _mm256_and_si256(_mm256_castps_si256(a), mask);
                let b = _mm256_and_si256(_mm256_castps_si256(b), mask);
                [_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)]
            }
        }
        #[inline(always)]
        fn power_of_two(self, shifted: Self::V) -> Self::V {
            // SAFETY: see the head of the module.
            shifted.map(|half| unsafe {
                let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(half));
                _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3F80_0000)))
            })
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

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
            #[cfg(not(target_arch = "x86_64"))]
            {
                let fastdecode_core::Level::Portable = level;
                $body($crate::lanes::Portable, $($arg),*);
            }
        }
    };
}
pub(crate) use kernel;
