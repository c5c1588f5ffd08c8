//! NEON, with the dot products of Armv8.2 and without.
//!
//! Both multiply signed bytes by signed ones. A byte of the weights with its highest bit flipped is the
//! weight itself as a signed byte. The sum of two products fits in 16 bits, since the other factors are at least
//! -127.

// SAFETY of every block in this module: the intrinsics need nothing but NEON, which the target has, and a
// `Sdot` is made only by `new`, whose caller has made sure of the dot products. Loads are unaligned ones over
// references to 64 bytes.
use super::{Dots, Line, ZERO_OF_4};
use fastdecode_simd::Neon;
use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, vandq_u8, vcvtq_f32_s32, vdupq_n_s8, vdupq_n_s32,
    vdupq_n_u8, veorq_s8, vget_low_s8, vld1q_s8, vld1q_u8, vmull_high_s8, vmull_s8, vpadalq_s16,
    vpaddq_s16, vreinterpretq_s8_s32, vreinterpretq_s8_u8, vshrq_n_u8, vsubq_s8,
};
use std::arch::asm;

/// NEON with dot products.
#[derive(Clone, Copy)]
pub struct Sdot(());

impl Sdot {
    /// # Safety
    /// The processor has the dot products, and the caller is compiled for them.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// Nibbles less `zero`, as signed bytes.
#[inline(always)]
fn signed_nibbles(line: &Line, zero: i8) -> [[int8x16_t; 4]; 2] {
    let from = line.bytes().as_ptr();
    // SAFETY: see the head of the module.
    let one = |i: usize, high: bool| unsafe {
        let bytes = vld1q_u8(from.add(16 * i));
        let bytes = if high { vshrq_n_u8::<4>(bytes) } else { vandq_u8(bytes, vdupq_n_u8(0xF)) };
        vsubq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(zero))
    };
    let all = |high| [one(0, high), one(1, high), one(2, high), one(3, high)];
    [all(false), all(true)]
}

#[inline(always)]
fn signed(line: &Line) -> [int8x16_t; 4] {
    let from = line.bytes().as_ptr().cast::<i8>();
    // SAFETY: see the head of the module.
    let one = |i: usize| unsafe { veorq_s8(vld1q_s8(from.add(16 * i)), vdupq_n_s8(i8::MIN)) };
    [one(0), one(1), one(2), one(3)]
}

/// `sum` with the products of four outputs.
#[inline(always)]
fn sdot(_: Sdot, mut sum: int32x4_t, weights: int8x16_t, word: i32) -> int32x4_t {
    // The intrinsic of this instruction is not stable. It takes the word from a vector register, so a float
    // with the same bits is passed: a float is loaded into such a register directly, an integer is not.
    // SAFETY: see the head of the module.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {word:v}.4b[0]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            word = in(vreg) f32::from_bits(word.cast_unsigned()),
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// The same without that instruction.
#[inline(always)]
fn in_pairs(_: Neon, sum: int32x4_t, weights: int8x16_t, word: i32) -> int32x4_t {
    // SAFETY: see the head of the module.
    unsafe {
        let word = vreinterpretq_s8_s32(vdupq_n_s32(word));
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(word));
        vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(weights, word)))
    }
}

macro_rules! dots {
    ($name:ident, $dot:ident, $rows:literal, $rows_of_groups:literal) => {
        impl Dots for $name {
            type L = Neon;
            type I = [int32x4_t; 4];
            type W = [int8x16_t; 4];
            type Nibbles = [int8x16_t; 4];
            const ACROSS: usize = 1;
            const ROWS: usize = $rows;
            const ROWS_OF_GROUPS: usize = $rows_of_groups;

            #[inline(always)]
            fn lanes(self) -> Neon {
                Neon
            }
            #[inline(always)]
            fn zeros(self) -> Self::I {
                // SAFETY: see the head of the module.
                unsafe { [vdupq_n_s32(0); 4] }
            }
            #[inline(always)]
            fn start(self, _offset: i32) -> Self::I {
                self.zeros()
            }
            #[inline(always)]
            fn weights(self, line: &Line) -> Self::W {
                signed(line)
            }
            #[inline(always)]
            fn dot(self, sums: Self::I, weights: Self::W, word: i32) -> Self::I {
                let ([a, b, c, d], [v, w, x, y]) = (sums, weights);
                [
                    $dot(self, a, v, word),
                    $dot(self, b, w, word),
                    $dot(self, c, x, word),
                    $dot(self, d, y, word),
                ]
            }
            #[inline(always)]
            fn start_of_4(self, offset: i32) -> Self::I {
                self.start(offset)
            }
            #[inline(always)]
            fn nibbles(self, line: &Line) -> [Self::Nibbles; 2] {
                signed_nibbles(line, ZERO_OF_4 as i8)
            }
            #[inline(always)]
            fn plain_nibbles(self, line: &Line) -> [Self::Nibbles; 2] {
                signed_nibbles(line, 0)
            }
            #[inline(always)]
            fn dot_of_4(self, sums: Self::I, weights: Self::Nibbles, word: i32) -> Self::I {
                self.dot(sums, weights, word)
            }
            #[inline(always)]
            fn floats(self, sums: Self::I) -> [float32x4_t; 4] {
                // SAFETY: see the head of the module.
                sums.map(|sums| unsafe { vcvtq_f32_s32(sums) })
            }
        }
    };
}

dots!(Sdot, sdot, 6, 3);
// Four rows would spill sums to memory: products occupy registers until they are added.
dots!(Neon, in_pairs, 3, 2);
