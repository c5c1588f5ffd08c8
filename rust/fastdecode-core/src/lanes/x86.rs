//! AVX-512 and AVX2.

// SAFETY of every block in this module: the intrinsics need nothing but the CPU features, and
// a value of the type is only made by `new`, whose caller has made sure of them. Loads and
// stores are unaligned ones, over references to 16 numbers.
use super::{LANES, Lanes, compress_each};
use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _CMP_GE_OQ, _CMP_LE_OQ, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvttps_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_max_ps, _mm256_min_epu32, _mm256_min_ps, _mm256_movemask_ps,
    _mm256_mul_ps, _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_cvttps_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_mask_cmp_ps_mask, _mm512_mask_compress_epi32,
    _mm512_mask_compress_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_min_epu32, _mm512_min_ps,
    _mm512_mul_ps, _mm512_permutexvar_epi32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
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
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty { $body:expr })*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: see the head of the module.
            unsafe { $body }
        })*
    };
}

impl Lanes for Avx512 {
    type V = __m512;
    type I = __m512i;

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
        fn reaching(x: Self::V, low: Self::V, yes: Self::V) -> Self::V {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, low), yes)
        }
        fn between(
            x: Self::V, low: Self::V, high: Self::V, yes: Self::V, no: Self::V
        ) -> Self::V {{
            let low = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, low);
            _mm512_mask_blend_ps(_mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(low, x, high), no, yes)
        }}
        fn bits(v: Self::V) -> Self::I { _mm512_castps_si512(v) }
        fn of_bits(i: Self::I) -> Self::V { _mm512_castsi512_ps(i) }
        fn nearer(a: Self::V, b: Self::V) -> Self::V {
            _mm512_castsi512_ps(_mm512_min_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
        }
        fn to_exponent(i: Self::I) -> Self::I { _mm512_slli_epi32::<20>(i) }
        fn eighths(table: Self::I, i: Self::I) -> Self::I { _mm512_permutexvar_epi32(i, table) }
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
}
