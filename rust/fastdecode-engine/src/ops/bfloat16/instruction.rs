//! The instruction for products of bfloat16.

#[cfg(not(target_arch = "x86_64"))]
use fastdecode_simd::Level;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Instruction;

/// The instruction for products of bfloat16, which this machine does not have.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Instruction {}

#[cfg(not(target_arch = "x86_64"))]
impl Instruction {
    /// `None`.
    pub fn detect(_: Level) -> Option<Self> {
        None
    }

    /// `None`.
    pub fn agrees() -> Option<bool> {
        None
    }

    /// Never called.
    pub fn words(instruction: Self, _: &[f32], _: usize, _: &mut [u32]) {
        match instruction {}
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    // SAFETY of every block in this module: the intrinsics need nothing but the processor's features, and a
    // value of the type is made only where these were found.
    use crate::weights::{LEAST_OF_BFLOAT16, PAIR, rounded_bits};
    use fastdecode_simd::{LANES, Level, LevelKind, Line};
    use std::arch::x86_64::{
        __m256bh, __m256i, __m512, __m512bh, __m512i, _CMP_NLT_UQ, _mm512_abs_ps,
        _mm512_cmp_ps_mask, _mm512_cvtepu16_epi32, _mm512_dpbf16_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mask_storeu_epi32, _mm512_maskz_cvtneps_pbh,
        _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_set1_epi32, _mm512_set1_ps,
        _mm512_slli_epi32, _mm512_storeu_ps,
    };
    use std::sync::LazyLock;

    /// AVX-512's `vdpbf16ps`. A value is the proof that the processor has it and that it computes what it
    /// should.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Instruction(());

    impl Instruction {
        /// The instruction, on a level that includes it.
        pub fn detect(level: Level) -> Option<Self> {
            (level.kind() == LevelKind::Avx512 && Self::agrees() == Some(true)).then_some(Self(()))
        }

        /// Whether the processor's instruction agrees with fused multiply-adds; `None` if it has none.
        pub fn agrees() -> Option<bool> {
            static AGREES: LazyLock<Option<bool>> = LazyLock::new(|| {
                let avx512 = Level::named("avx512").is_some();
                // SAFETY: the processor has the instruction, and AVX-512's other features.
                (avx512 && is_x86_feature_detected!("avx512bf16"))
                    .then(|| unsafe { agrees(1 << 8, 0) })
            });
            *AGREES
        }

        /// Rounds a row block of `height` rows, and puts each two inputs of a row into a word.
        ///
        /// # Panics
        /// If `to` has another size, or a row block has more rows than a vector lanes.
        pub fn words(_: Self, x: &[f32], height: usize, to: &mut [u32]) {
            assert!(height <= LANES && x.len().is_multiple_of(height));
            assert_eq!(to.len(), x.len().div_ceil(PAIR * height) * height);
            // SAFETY: a value of this type proves that the processor has the instruction, and AVX-512 with it.
            unsafe { words(x, height, to) }
        }

        /// Two more steps of sixteen chains: the products of the upper halves, then those of the lower ones.
        ///
        /// # Safety
        /// The processor has the instruction, and the caller is compiled for it.
        #[inline(always)]
        pub unsafe fn dot(sums: __m512, weights: __m512i, word: u32) -> __m512 {
            // SAFETY: see the head of the module.
            unsafe {
                let word = _mm512_set1_epi32(word.cast_signed());
                _mm512_dpbf16_ps(sums, halves(weights), halves(word))
            }
        }
    }

    /// The same bits, as another type.
    #[inline(always)]
    fn halves(words: __m512i) -> __m512bh {
        // SAFETY: both types are 512 bits, and all bits are values of either.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
    }

    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl")]
    fn words(x: &[f32], height: usize, to: &mut [u32]) {
        if height == 1 {
            words_of_row(x, to);
            return;
        }
        let mask = |count: usize| ((1u32 << count) - 1) as u16;
        for (to, x) in to.chunks_exact_mut(height).zip(x.chunks(PAIR * height)) {
            let (high, low) = x.split_at(height);
            // SAFETY: masked loads and stores of as many numbers as the slices have, at most sixteen.
            unsafe {
                let high = _mm512_maskz_loadu_ps(mask(high.len()), high.as_ptr());
                let low = _mm512_maskz_loadu_ps(mask(low.len()), low.as_ptr());
                let word = _mm512_or_si512(_mm512_slli_epi32::<16>(upper(high)), upper(low));
                _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), mask(to.len()), word);
            }
        }
    }

    /// In plain loops, which the compiler vectorises.
    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl")]
    fn words_of_row(x: &[f32], to: &mut [u32]) {
        let (pairs, rest) = x.as_chunks::<PAIR>();
        for (to, [high, low]) in to.iter_mut().zip(pairs) {
            *to = rounded_bits(*high) | rounded_bits(*low) >> 16;
        }
        if let (Some(to), [high]) = (to.get_mut(pairs.len()), rest) {
            *to = rounded_bits(*high);
        }
    }

    /// [`rounded_bits`] of sixteen floats, in the low halves.
    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl")]
    fn upper(x: __m512) -> __m512i {
        let sizes = _mm512_abs_ps(x);
        // True for NaN, too.
        let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(sizes, _mm512_set1_ps(LEAST_OF_BFLOAT16));
        let nearest = _mm512_maskz_cvtneps_pbh(kept, x);
        // SAFETY: both types are 256 bits, and all bits are values of either.
        _mm512_cvtepu16_epi32(unsafe { std::mem::transmute::<__m256bh, __m256i>(nearest) })
    }

    /// Compares the instruction with multiply-adds on `chains` times sixteen chains of 64 words.
    ///
    /// # Safety
    /// The processor has what the function is compiled for.
    #[target_feature(enable = "avx512bf16,avx512f")]
    pub(super) fn agrees(chains: u64, seed: u64) -> bool {
        let mut state = seed;
        (0..chains).all(|chain| {
            // Sizes around one, and sizes of all magnitudes, up to sums that overflow.
            let exponents = [(120, 16), (127 - 56, 127 + 56)][(chain % 2) as usize];
            let mut found = [0.0; LANES];
            let mut expected = found;
            for _ in 0..64 {
                let word = value(&mut state, exponents) | value(&mut state, exponents) >> 16;
                let mut weights = Line::ZERO;
                for weight in weights.words_mut() {
                    *weight = value(&mut state, exponents) | value(&mut state, exponents) >> 16;
                }
                for (sum, weight) in expected.iter_mut().zip(weights.words()) {
                    for half in [|word| word & 0xFFFF_0000, |word| word << 16] {
                        *sum =
                            f32::from_bits(half(*weight)).mul_add(f32::from_bits(half(word)), *sum);
                    }
                }
                // SAFETY: this function is compiled for the instruction; loads and stores are of 16 numbers.
                unsafe {
                    let weights = _mm512_loadu_si512(weights.words().as_ptr().cast());
                    let sums = _mm512_loadu_ps(found.as_ptr());
                    let sums = Instruction::dot(sums, weights, word);
                    _mm512_storeu_ps(found.as_mut_ptr(), sums);
                }
            }
            found.iter().zip(expected).all(|(found, expected)| {
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
            })
        })
    }

    /// The bits of a random bfloat16 with one of `exponents.1` exponents from `exponents.0` on.
    fn value(state: &mut u64, exponents: (u32, u32)) -> u32 {
        // splitmix64
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = *state;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let x = (x ^ x >> 31) as u32;
        let exponent = exponents.0 + (x >> 8) % exponents.1;
        // One in sixteen is zero.
        if x >> 28 == 0 { 0 } else { (x & 0x80) << 24 | exponent << 23 | (x & 0x7F) << 16 }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::{Instruction, x86};
    use crate::weights::{PAIR, rounded_bits};
    use fastdecode_simd::Level;

    #[test]
    fn words_are_made_of_rounded_floats() {
        let Some(instruction) = Instruction::detect(Level::detect()) else { return };
        let exponents = [0, 1, 70, 71, 72, 126, 127, 200, 254, 255];
        let x: Vec<f32> = (0..1 << 12)
            .map(|i: u32| {
                let exponent = exponents[i as usize % exponents.len()] << 23;
                f32::from_bits(i << 31 | exponent | i.wrapping_mul(0x9E37_79B9) >> 9)
            })
            .collect();
        for height in 1..=12 {
            for pairs in [1, 2, 3, 8, 9] {
                let x = &x[..height * pairs];
                let mut words = vec![1; pairs.div_ceil(PAIR) * height];
                Instruction::words(instruction, x, height, &mut words);
                for (i, word) in words.into_iter().enumerate() {
                    let at = i / height * PAIR * height + i % height;
                    let low = x.get(at + height).map_or(0, |low| rounded_bits(*low) >> 16);
                    assert_eq!(word, rounded_bits(x[at]) | low, "{height}, {i}");
                }
            }
        }
    }

    /// `FASTDECODE_LANES` is the number of lanes, each of two steps.
    #[test]
    fn the_instruction_is_two_multiply_adds() {
        let lanes: u64 = std::env::var("FASTDECODE_LANES").map_or(1 << 20, |x| x.parse().unwrap());
        match Instruction::agrees() {
            // SAFETY: the processor has the instruction, and with it the rest of AVX-512.
            Some(agrees) => assert!(agrees && unsafe { x86::agrees(lanes.div_ceil(1 << 10), 1) }),
            None => eprintln!("this processor has no instruction for products of bfloat16"),
        }
    }
}
