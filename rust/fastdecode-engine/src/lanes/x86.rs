//! AVX-512 and AVX2.

// SAFETY of every block in this module: the intrinsics need nothing but the CPU features, and
// a value of the type is only made by `new`, whose caller has made sure of them. Loads and
// stores are unaligned ones, over references to 16 floats, or masked ones that stay within an array.
use super::{LANES, Lanes, Line};
use std::arch::x86_64::{
    __m256, __m256i, __m512, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_div_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps,
    _mm256_maskstore_epi32, _mm256_max_epi32, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_or_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps,
    _mm256_sub_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_epi32,
    _mm512_maskz_loadu_ps, _mm512_max_epi32, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_or_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps,
    _mm512_sub_ps,
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
    fn prefetch(self, line: *const Line) {
        // SAFETY: see the head of the module; a hint does nothing where nothing is.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
    #[inline(always)]
    fn prefetch_soon(self, line: *const Line) {
        // SAFETY: see the head of the module; a hint does nothing where nothing is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
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
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        // No closures here and below: they are not compiled for the instruction set.
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
    fn prefetch(self, line: *const Line) {
        // SAFETY: see the head of the module; a hint does nothing where nothing is.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
    #[inline(always)]
    fn prefetch_soon(self, line: *const Line) {
        // SAFETY: see the head of the module; a hint does nothing where nothing is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
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
}

/// A mask of the first `count` lanes, for the instructions that want one.
#[inline(always)]
fn lanes_below(count: usize) -> __m256i {
    const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let from = &ONES[8 - count.min(8)..];
    // SAFETY: see the head of the module; eight words are left behind any of the first nine.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}
