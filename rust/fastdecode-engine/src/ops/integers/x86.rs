//! VNNI and AVX2.

// SAFETY of every block in this module: the intrinsics need nothing but the processor's features, and a
// value of the type is made only by `new`, whose caller has made sure of them. Loads are unaligned ones over
// references to 64 bytes.
use super::{Dots, Line};
use fastdecode_simd::{Avx2, Avx512};
use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_and_si256,
    _mm256_cvtepi32_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_srli_epi16, _mm256_xor_si256, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_srli_epi16,
};

/// AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub struct Vnni(Avx512);

impl Vnni {
    /// # Safety
    /// The processor has what `LevelKind::Avx512` names and VNNI, and the caller is compiled for them.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Avx512::new() })
    }
}

impl Dots for Vnni {
    type L = Avx512;
    type I = __m512i;
    type W = __m512i;
    type Nibbles = __m512i;
    const ACROSS: usize = 2;
    const ROWS: usize = 12;
    const ROWS_OF_GROUPS: usize = 6;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn zeros(self) -> __m512i {
        self.start(0)
    }
    #[inline(always)]
    fn start(self, offset: i32) -> __m512i {
        // SAFETY: see the head of the module.
        unsafe { _mm512_set1_epi32(offset) }
    }
    #[inline(always)]
    fn weights(self, line: &Line) -> __m512i {
        // SAFETY: see the head of the module.
        unsafe { _mm512_loadu_si512(line.bytes().as_ptr().cast()) }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, weights: __m512i, word: i32) -> __m512i {
        // SAFETY: see the head of the module.
        unsafe { _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(word)) }
    }
    #[inline(always)]
    fn start_of_4(self, offset: i32) -> __m512i {
        self.start(offset)
    }
    #[inline(always)]
    fn nibbles(self, line: &Line) -> [__m512i; 2] {
        let bytes = self.weights(line);
        // SAFETY: see the head of the module.
        unsafe {
            let low = _mm512_set1_epi8(0xF);
            [_mm512_and_si512(bytes, low), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low)]
        }
    }
    #[inline(always)]
    fn plain_nibbles(self, line: &Line) -> [__m512i; 2] {
        self.nibbles(line)
    }
    #[inline(always)]
    fn dot_of_4(self, sums: __m512i, weights: __m512i, word: i32) -> __m512i {
        self.dot(sums, weights, word)
    }
    #[inline(always)]
    fn floats(self, sums: __m512i) -> __m512 {
        // SAFETY: see the head of the module.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

impl Dots for Avx2 {
    type L = Self;
    type I = [__m256i; 2];
    /// The absolute values, and the signed ones: the instruction multiplies unsigned bytes by signed ones,
    /// and twice 128 * 127 fits in its 16 bits.
    type W = [[__m256i; 2]; 2];
    /// Unsigned bytes: twice 15 * 127 fits in the 16 bits as well.
    type Nibbles = [__m256i; 2];
    const ACROSS: usize = 1;
    const ROWS: usize = 4;
    const ROWS_OF_GROUPS: usize = 2;

    #[inline(always)]
    fn lanes(self) -> Self {
        self
    }
    #[inline(always)]
    fn zeros(self) -> Self::I {
        // SAFETY: see the head of the module.
        [unsafe { _mm256_setzero_si256() }; 2]
    }
    #[inline(always)]
    fn start(self, _offset: i32) -> Self::I {
        self.zeros()
    }
    #[inline(always)]
    fn weights(self, line: &Line) -> Self::W {
        let bytes = line.bytes();
        // SAFETY: see the head of the module.
        unsafe {
            let zero = _mm256_set1_epi8(-128);
            let low = _mm256_xor_si256(_mm256_loadu_si256(bytes.as_ptr().cast()), zero);
            let high = _mm256_xor_si256(_mm256_loadu_si256(bytes[32..].as_ptr().cast()), zero);
            [[_mm256_abs_epi8(low), low], [_mm256_abs_epi8(high), high]]
        }
    }
    #[inline(always)]
    fn dot(self, sums: Self::I, weights: Self::W, word: i32) -> Self::I {
        // No closures: they would not be compiled for the instruction set.
        let [[low, signed_low], [high, signed_high]] = weights;
        // SAFETY: see the head of the module.
        unsafe {
            let (x, ones) = (_mm256_set1_epi32(word), _mm256_set1_epi16(1));
            let low = _mm256_maddubs_epi16(low, _mm256_sign_epi8(x, signed_low));
            let high = _mm256_maddubs_epi16(high, _mm256_sign_epi8(x, signed_high));
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, ones)),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, ones)),
            ]
        }
    }
    #[inline(always)]
    fn start_of_4(self, offset: i32) -> Self::I {
        // SAFETY: see the head of the module.
        [unsafe { _mm256_set1_epi32(offset) }; 2]
    }
    #[inline(always)]
    fn nibbles(self, line: &Line) -> [Self::Nibbles; 2] {
        let bytes = line.bytes();
        // SAFETY: see the head of the module.
        unsafe {
            let low = _mm256_set1_epi8(0xF);
            let a = _mm256_loadu_si256(bytes.as_ptr().cast());
            let b = _mm256_loadu_si256(bytes[32..].as_ptr().cast());
            let (c, d) = (_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b));
            [
                [_mm256_and_si256(a, low), _mm256_and_si256(b, low)],
                [_mm256_and_si256(c, low), _mm256_and_si256(d, low)],
            ]
        }
    }
    #[inline(always)]
    fn plain_nibbles(self, line: &Line) -> [Self::Nibbles; 2] {
        self.nibbles(line)
    }
    #[inline(always)]
    fn dot_of_4(self, sums: Self::I, weights: Self::Nibbles, word: i32) -> Self::I {
        // SAFETY: see the head of the module.
        unsafe {
            let (x, ones) = (_mm256_set1_epi32(word), _mm256_set1_epi16(1));
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(weights[0], x), ones);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(weights[1], x), ones);
            [_mm256_add_epi32(sums[0], low), _mm256_add_epi32(sums[1], high)]
        }
    }
    #[inline(always)]
    fn floats(self, sums: Self::I) -> [__m256; 2] {
        // SAFETY: see the head of the module.
        unsafe { [_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])] }
    }
}
