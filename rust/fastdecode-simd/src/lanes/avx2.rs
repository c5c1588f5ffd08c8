//! AVX2: two registers.

// SAFETY of every block in this module: the intrinsics need nothing but the processor's features, and
// a value of the type is made only by `new`, whose caller has made sure of them. Loads and stores are
// unaligned ones over references to 16 numbers, or masked ones that stay within an array.
use super::{FLOAT16_SCALE, FLOAT16_SIZE, LANES, Lanes, compress_each};
use crate::line::Line;
use std::arch::x86_64::{
    __m256, __m256i, _CMP_GE_OQ, _CMP_LE_OQ, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_andnot_si256,
    _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi32_ps,
    _mm256_cvttps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_epi32, _mm256_max_epi32, _mm256_max_ps, _mm256_min_epu32,
    _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_permutevar8x32_epi32,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_ps,
    _mm256_storeu_si256, _mm256_sub_ps,
};

/// AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The proof that AVX2 and FMA may be used.
    ///
    /// # Safety
    /// The processor has what [`LevelKind::Avx2`](crate::LevelKind::Avx2) names, and the caller is
    /// compiled for them.
    #[inline(always)]
    #[must_use]
    pub unsafe fn new() -> Self {
        Self(())
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

    avx2! {
        fn add(a, b) -> V = _mm256_add_ps;
        fn sub(a, b) -> V = _mm256_sub_ps;
        fn mul(a, b) -> V = _mm256_mul_ps;
        fn div(a, b) -> V = _mm256_div_ps;
        fn fma(a, b, c) -> V = _mm256_fmadd_ps;
        fn max(a, b) -> V = _mm256_max_ps;
        fn min(a, b) -> V = _mm256_min_ps;
        fn bits(v) -> I = _mm256_castps_si256;
        fn of_bits(i) -> V = _mm256_castsi256_ps;
        fn to_exponent(i) -> I = _mm256_slli_epi32::<20>;
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
    fn nearer(self, a: Self::V, b: Self::V) -> Self::V {
        let (a, b) = (self.bits(a), self.bits(b));
        // SAFETY: see the head of the module.
        self.of_bits(unsafe { [_mm256_min_epu32(a[0], b[0]), _mm256_min_epu32(a[1], b[1])] })
    }
    #[inline(always)]
    fn eighths(self, table: Self::I, i: Self::I) -> Self::I {
        // SAFETY: see the head of the module.
        i.map(|i| unsafe { _mm256_permutevar8x32_epi32(table[0], i) })
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
    fn reaching(self, x: Self::V, low: Self::V, yes: Self::V) -> Self::V {
        let half = |i: usize| {
            // SAFETY: see the head of the module.
            unsafe { _mm256_and_ps(yes[i], _mm256_cmp_ps::<_CMP_GE_OQ>(x[i], low[i])) }
        };
        [half(0), half(1)]
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
    #[inline(always)]
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V {
        const { assert!(R <= LANES) }
        // SAFETY: see the head of the module; only the array's elements are read.
        unsafe {
            let high = from.as_ptr().wrapping_add(8);
            [
                _mm256_maskload_ps(from.as_ptr(), lanes_below(R)),
                _mm256_maskload_ps(high, lanes_below(R.saturating_sub(8))),
            ]
        }
    }
    #[inline(always)]
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]) {
        const { assert!(R <= LANES) }
        let [low, high] = v;
        // SAFETY: see the head of the module; only the array's elements are written.
        unsafe {
            let to = to.as_mut_ptr();
            _mm256_maskstore_epi32(to, lanes_below(R), _mm256_castps_si256(low));
            let mask = lanes_below(R.saturating_sub(8));
            _mm256_maskstore_epi32(to.wrapping_add(8), mask, _mm256_castps_si256(high));
        }
    }
    #[inline(always)]
    fn larger_size(self, a: Self::V, b: Self::V) -> Self::V {
        let mut out = a;
        for (a, b) in out.iter_mut().zip(b) {
            // SAFETY: see the head of the module.
            unsafe {
                let b = _mm256_and_si256(_mm256_castps_si256(b), _mm256_set1_epi32(i32::MAX));
                *a = _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(*a), b));
            }
        }
        out
    }
    #[inline(always)]
    fn power_of_two(self, shifted: Self::V) -> Self::V {
        // SAFETY: see the head of the module.
        shifted.map(|half| unsafe {
            let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(half));
            _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3F80_0000)))
        })
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
    fn float16(self, v: Self::V) -> Self::V {
        let mut out = v;
        for (out, v) in out.iter_mut().zip(v) {
            // SAFETY: see the head of the module.
            unsafe {
                let mask = _mm256_set1_epi32(FLOAT16_SIZE.cast_signed());
                let bits = _mm256_castps_si256(v);
                let size = _mm256_srli_epi32::<3>(_mm256_and_si256(bits, mask));
                let size = _mm256_mul_ps(_mm256_castsi256_ps(size), _mm256_set1_ps(FLOAT16_SCALE));
                let sign = _mm256_andnot_si256(mask, bits);
                *out = _mm256_castsi256_ps(_mm256_or_si256(_mm256_castps_si256(size), sign));
            }
        }
        out
    }
    #[inline(always)]
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        let mut out = v[3];
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: see the head of the module.
            unsafe {
                let mut words = _mm256_castps_si256(*out);
                for v in [v[2], v[1], v[0]] {
                    let byte = _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0xFF));
                    words = _mm256_or_si256(_mm256_slli_epi32::<8>(words), byte);
                }
                *out = _mm256_castsi256_ps(words);
            }
        }
        out
    }
    #[inline(always)]
    fn prefetch_l2(self, line: *const Line) {
        // SAFETY: see the head of the module; a prefetch of an invalid address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
    #[inline(always)]
    fn prefetch_l1(self, line: *const Line) {
        // SAFETY: see the head of the module; a prefetch of an invalid address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
}

/// A mask of the first `count` lanes, for masked loads and stores.
#[inline(always)]
fn lanes_below(count: usize) -> __m256i {
    const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let from = &ONES[8 - count.min(8)..];
    // SAFETY: see the head of the module; at least eight words follow each of the first nine.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}
