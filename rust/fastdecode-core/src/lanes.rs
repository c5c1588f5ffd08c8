//! Sixteen float32 lanes, on each instruction set.
//!
//! Every kernel is written once over [`Lanes`] and compiled for each level. All operations are IEEE
//! or integer operations a lane, so the levels give the same bits. Plain loops over arrays were
//! tried first: whether the compiler makes vectors of them turned on details far away, and where
//! it did not a pass took ten times as long.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Bits of a half in [`Lanes::split`].
const HALF: u32 = 21;

/// The operations of one instruction set. A value of the type is the proof that the CPU has it.
pub trait Lanes: Copy {
    /// Sixteen floats.
    type V: Copy;
    /// Sixteen integers of 32 bits.
    type I: Copy;

    /// What [`Lanes::split`] adds to the upper halves.
    const HIGH_BIAS: u32;
    /// What [`Lanes::split`] adds to the lower halves.
    const LOW_BIAS: u32;

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
    /// low <= x <= high ? yes : no
    fn between(self, x: Self::V, low: Self::V, high: Self::V, yes: Self::V, no: Self::V)
    -> Self::V;
    /// The bits as integers.
    fn bits(self, v: Self::V) -> Self::I;
    /// The floats with these bits.
    fn of_bits(self, i: Self::I) -> Self::V;
    /// i << 23: into a float's exponent.
    fn to_exponent(self, i: Self::I) -> Self::I;
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
    /// Lanes in 0..2^31 as floats, exact below 2^24.
    fn to_float(self, i: Self::I) -> Self::V;
    /// To memory.
    fn store_int(self, i: Self::I, to: &mut [u32; LANES]);
    /// The lanes whose bits are set, from the first on; how many they are. What follows them in
    /// `to` is anything.
    fn compress(self, v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize;
    /// [`Lanes::compress`] of integers.
    fn compress_int(self, i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize;

    /// The integer part of `a * b`, a product in 0..=2^42 that is a float exactly, in two halves:
    /// the upper 21 bits and the lower 21 bits, with the biases added.
    #[inline(always)]
    fn split(self, a: Self::V, b: Self::V) -> (Self::I, Self::I) {
        let product = self.mul(a, b);
        let high = self.truncate(self.mul(product, self.splat(1.0 / (1 << HALF) as f32)));
        let rest = self.fma(self.to_float(high), self.splat(-((1 << HALF) as f32)), product);
        (high, self.truncate(rest))
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

    const HIGH_BIAS: u32 = 0;
    const LOW_BIAS: u32 = 0;

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
    fn to_exponent(self, i: Self::I) -> Self::I {
        i.map(|x| x << 23)
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
mod x86 {
    // SAFETY of every block in this module: the intrinsics need nothing but the CPU features, and
    // a value of the type is only made by `new`, whose caller has made sure of them. Loads and
    // stores are unaligned ones, over references to 16 numbers.
    use std::arch::x86_64::{
        __m256, __m256i, __m512, __m512i, _CMP_GE_OQ, _CMP_LE_OQ, _MM_FROUND_NO_EXC,
        _MM_FROUND_TO_NEG_INF, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256,
        _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps,
        _mm256_cvtepi32_ps, _mm256_cvttps_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps,
        _mm256_storeu_si256, _mm256_sub_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
        _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps,
        _mm512_cvttps_epi32, _mm512_fmadd_ps, _mm512_fmadd_round_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_mask_cmp_ps_mask,
        _mm512_mask_compress_epi32, _mm512_mask_compress_ps, _mm512_max_ps, _mm512_min_ps,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps,
        _mm512_storeu_si512, _mm512_sub_ps,
    };

    use super::{HALF, LANES, Lanes, compress_each};

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
        ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty { $body:expr })*) => {
            $(#[inline(always)]
            fn $name(self, $($arg: $ty),*) -> $ret {
                // SAFETY: see the head of the module.
                unsafe { $body }
            })*
        };
    }

    /// Adding this to a float in 0..2^43, rounding down, leaves its multiple of 2^21 in the low
    /// bits.
    const HIGH_ROUNDER: f32 = 1.5 * (1u64 << (23 + HALF)) as f32;
    /// The same for the integer part of a float in 0..2^22.
    const LOW_ROUNDER: f32 = 1.5 * (1u64 << 23) as f32;
    const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;

    impl Lanes for Avx512 {
        type V = __m512;
        type I = __m512i;

        const HIGH_BIAS: u32 = HIGH_ROUNDER.to_bits();
        const LOW_BIAS: u32 = LOW_ROUNDER.to_bits();

        avx512! {
            fn splat(x: f32) -> Self::V { _mm512_set1_ps(x) }
            fn load(from: &[f32; LANES]) -> Self::V { _mm512_loadu_ps(from.as_ptr()) }
            fn store(v: Self::V, to: &mut [f32; LANES]) -> () { _mm512_storeu_ps(to.as_mut_ptr(), v) }
            fn add(a: Self::V, b: Self::V) -> Self::V { _mm512_add_ps(a, b) }
            fn sub(a: Self::V, b: Self::V) -> Self::V { _mm512_sub_ps(a, b) }
            fn mul(a: Self::V, b: Self::V) -> Self::V { _mm512_mul_ps(a, b) }
            fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V { _mm512_fmadd_ps(a, b, c) }
            fn max(a: Self::V, b: Self::V) -> Self::V { _mm512_max_ps(a, b) }
            fn min(a: Self::V, b: Self::V) -> Self::V { _mm512_min_ps(a, b) }
            fn at_least(a: Self::V, b: Self::V) -> u16 { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b) }
            fn between(
                x: Self::V, low: Self::V, high: Self::V, yes: Self::V, no: Self::V
            ) -> Self::V {{
                let low = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, low);
                _mm512_mask_blend_ps(_mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(low, x, high), no, yes)
            }}
            fn bits(v: Self::V) -> Self::I { _mm512_castps_si512(v) }
            fn of_bits(i: Self::I) -> Self::V { _mm512_castsi512_ps(i) }
            fn to_exponent(i: Self::I) -> Self::I { _mm512_slli_epi32::<23>(i) }
            fn splat_int(x: u32) -> Self::I { _mm512_set1_epi32(x.cast_signed()) }
            fn load_int(from: &[u32; LANES]) -> Self::I {
                _mm512_loadu_si512(from.as_ptr().cast())
            }
            fn add_int(a: Self::I, b: Self::I) -> Self::I { _mm512_add_epi32(a, b) }
            fn and(a: Self::I, b: Self::I) -> Self::I { _mm512_and_si512(a, b) }
            fn truncate(v: Self::V) -> Self::I { _mm512_cvttps_epi32(v) }
            fn to_float(i: Self::I) -> Self::V { _mm512_cvtepi32_ps(i) }
            fn store_int(i: Self::I, to: &mut [u32; LANES]) -> () {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), i)
            }
            // Into a register and from there to memory: compression to memory, and into a
            // register of zeros, take ten times as long on Zen.
            fn compress(v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize {{
                _mm512_storeu_ps(to.as_mut_ptr(), _mm512_mask_compress_ps(v, bits, v));
                bits.count_ones() as usize
            }}
            fn compress_int(i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize {{
                let chosen = _mm512_mask_compress_epi32(i, bits, i);
                _mm512_storeu_si512(to.as_mut_ptr().cast(), chosen);
                bits.count_ones() as usize
            }}
            // The product is never rounded, so each sum is the exact one, rounded down. Seven
            // instructions with conversions between floats and integers, three with these.
            fn split(a: Self::V, b: Self::V) -> (Self::I, Self::I) {{
                let rounder = _mm512_set1_ps(HIGH_ROUNDER);
                let high = _mm512_fmadd_round_ps::<DOWN>(a, b, rounder);
                // LOW_ROUNDER less the upper half, exactly.
                let rest = _mm512_sub_ps(_mm512_set1_ps(HIGH_ROUNDER + LOW_ROUNDER), high);
                let low = _mm512_fmadd_round_ps::<DOWN>(a, b, rest);
                (_mm512_castps_si512(high), _mm512_castps_si512(low))
            }}
        }
    }

    macro_rules! avx2 {
        ($(fn $name:ident($($arg:ident),*) -> $ret:ident = $intrinsic:expr;)*) => {
            $(#[inline(always)]
            fn $name(self, $($arg: avx2!(@$arg)),*) -> Self::$ret {
                // SAFETY: see the head of the module.
                unsafe { [$intrinsic($($arg[0]),*), $intrinsic($($arg[1]),*)] }
            })*
        };
        (@a) => { Self::V };
        (@b) => { Self::V };
        (@c) => { Self::V };
        (@v) => { Self::V };
        (@i) => { Self::I };
        (@j) => { Self::I };
    }

    impl Lanes for Avx2 {
        type V = [__m256; 2];
        type I = [__m256i; 2];

        const HIGH_BIAS: u32 = 0;
        const LOW_BIAS: u32 = 0;

        avx2! {
            fn add(a, b) -> V = _mm256_add_ps;
            fn sub(a, b) -> V = _mm256_sub_ps;
            fn mul(a, b) -> V = _mm256_mul_ps;
            fn fma(a, b, c) -> V = _mm256_fmadd_ps;
            fn max(a, b) -> V = _mm256_max_ps;
            fn min(a, b) -> V = _mm256_min_ps;
            fn bits(v) -> I = _mm256_castps_si256;
            fn of_bits(i) -> V = _mm256_castsi256_ps;
            fn to_exponent(i) -> I = _mm256_slli_epi32::<23>;
            fn add_int(i, j) -> I = _mm256_add_epi32;
            fn and(i, j) -> I = _mm256_and_si256;
            fn truncate(v) -> I = _mm256_cvttps_epi32;
            fn to_float(i) -> V = _mm256_cvtepi32_ps;
        }

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
        #[inline(always)]
        fn at_least(self, a: Self::V, b: Self::V) -> u16 {
            let half = |i: usize| {
                // SAFETY: see the head of the module.
                unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a[i], b[i])) as u16 }
            };
            half(0) | half(1) << 8
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
            let half = |i: usize| {
                // SAFETY: see the head of the module.
                unsafe {
                    let low = _mm256_cmp_ps::<_CMP_GE_OQ>(x[i], low[i]);
                    let high = _mm256_cmp_ps::<_CMP_LE_OQ>(x[i], high[i]);
                    _mm256_blendv_ps(no[i], yes[i], _mm256_and_ps(low, high))
                }
            };
            [half(0), half(1)]
        }
        #[inline(always)]
        fn splat_int(self, x: u32) -> Self::I {
            // SAFETY: see the head of the module.
            unsafe { [_mm256_set1_epi32(x.cast_signed()); 2] }
        }
        #[inline(always)]
        fn load_int(self, from: &[u32; LANES]) -> Self::I {
            // SAFETY: see the head of the module.
            unsafe {
                [
                    _mm256_loadu_si256(from.as_ptr().cast()),
                    _mm256_loadu_si256(from.as_ptr().add(8).cast()),
                ]
            }
        }
        #[inline(always)]
        fn store_int(self, i: Self::I, to: &mut [u32; LANES]) {
            // SAFETY: see the head of the module.
            unsafe {
                _mm256_storeu_si256(to.as_mut_ptr().cast(), i[0]);
                _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), i[1]);
            }
        }
        #[inline(always)]
        fn compress(self, v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize {
            compress_each(self.array(v), bits, to)
        }
        #[inline(always)]
        fn compress_int(self, i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize {
            compress_each(self.int_array(i), bits, to)
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

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
            #[cfg(not(target_arch = "x86_64"))]
            {
                let $crate::level::Level::Portable = level;
                $body($crate::lanes::Portable, $($arg),*)
            }
        }
    };
}
pub(crate) use kernel;
