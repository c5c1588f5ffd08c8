//! AVX-512: one register.

// SAFETY of every block in this module: the intrinsics need nothing but the processor's features, and
// a value of the type is made only by `new`, whose caller has made sure of them. Loads and stores are
// unaligned ones over references to 16 numbers, or masked ones that stay within an array.
use super::{FLOAT16_SCALE, FLOAT16_SIZE, LANES, Lanes};
use crate::line::Line;
use std::arch::x86_64::{
    __m512, __m512i, _CMP_GE_OQ, _CMP_LE_OQ, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch,
    _mm_storeu_si128, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_andnot_si512,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8,
    _mm512_cvtepi32_ps, _mm512_cvttps_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_mask_cmp_ps_mask, _mm512_mask_compress_epi32,
    _mm512_mask_compress_ps, _mm512_mask_storeu_epi32, _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps,
    _mm512_max_epi32, _mm512_max_ps, _mm512_min_epu32, _mm512_min_ps, _mm512_mul_ps,
    _mm512_or_si512, _mm512_permutexvar_epi32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

/// AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The proof that AVX-512 may be used.
    ///
    /// # Safety
    /// The processor has what [`LevelKind::Avx512`](crate::LevelKind::Avx512) names, and the caller is
    /// compiled for it.
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
        fn div(a: Self::V, b: Self::V) -> Self::V { _mm512_div_ps(a, b) }
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
        // register of zeros, are far slower on Zen.
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
    #[inline(always)]
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V {
        const { assert!(R <= LANES) }
        // SAFETY: see the head of the module; only the array's elements are read.
        unsafe { _mm512_maskz_loadu_ps((1u32 << R).wrapping_sub(1) as u16, from.as_ptr()) }
    }
    #[inline(always)]
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]) {
        const { assert!(R <= LANES) }
        let mask = (1u32 << R).wrapping_sub(1) as u16;
        // SAFETY: see the head of the module; only the array's elements are written.
        unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr(), mask, _mm512_castps_si512(v)) };
    }
    #[inline(always)]
    fn larger_size(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: see the head of the module.
        unsafe {
            let b = _mm512_and_si512(_mm512_castps_si512(b), _mm512_set1_epi32(i32::MAX));
            _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), b))
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
    fn float16(self, v: Self::V) -> Self::V {
        // SAFETY: see the head of the module.
        unsafe {
            let (bits, mask) =
                (_mm512_castps_si512(v), _mm512_set1_epi32(FLOAT16_SIZE.cast_signed()));
            let size = _mm512_srli_epi32::<3>(_mm512_and_si512(bits, mask));
            let size = _mm512_mul_ps(_mm512_castsi512_ps(size), _mm512_set1_ps(FLOAT16_SCALE));
            let sign = _mm512_andnot_si512(mask, bits);
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(size), sign))
        }
    }
    #[inline(always)]
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        // No closures: they would not be compiled for the instruction set.
        // SAFETY: see the head of the module.
        unsafe {
            let mut words = _mm512_castps_si512(v[3]);
            for v in [v[2], v[1], v[0]] {
                let byte = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0xFF));
                words = _mm512_or_si512(_mm512_slli_epi32::<8>(words), byte);
            }
            _mm512_castsi512_ps(words)
        }
    }
    #[inline(always)]
    fn lowest_bytes(self, v: Self::V) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        // SAFETY: see the head of the module; the array has sixteen bytes.
        unsafe {
            let narrow = _mm512_cvtepi32_epi8(_mm512_castps_si512(v));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), narrow);
        }
        bytes
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
