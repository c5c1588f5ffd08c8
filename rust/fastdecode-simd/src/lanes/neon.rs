//! NEON: four registers.

// SAFETY of every block in this module: the intrinsics need nothing but NEON, which the target has, as
// the assertion below makes sure. Loads and stores need no alignment and go over references to 16
// numbers, or over as many elements as an array has.
use super::{FLOAT16_SCALE, FLOAT16_SIZE, LANES, Lanes};
use crate::line::Line;
use std::arch::aarch64::{
    float32x4_t, uint8x16x2_t, uint32x4_t, vabsq_f32, vaddq_f32, vaddq_u32, vaddvq_u32, vandq_u32,
    vbicq_u32, vbslq_f32, vcgeq_f32, vcgtq_f32, vcleq_f32, vcltq_f32, vcombine_f32, vcvtq_f32_s32,
    vcvtq_s32_f32, vdivq_f32, vdup_n_f32, vdupq_n_f32, vdupq_n_u32, vfmaq_f32, vget_low_f32,
    vld1_f32, vld1q_f32, vld1q_lane_f32, vld1q_u8, vld1q_u32, vmaxq_u32, vminq_u32, vmlaq_u32,
    vmulq_f32, vmulq_n_f32, vorrq_u32, vqtbl1q_u8, vqtbl2q_u8, vreinterpretq_f32_u32,
    vreinterpretq_s32_u32, vreinterpretq_u8_u32, vreinterpretq_u32_f32, vreinterpretq_u32_s32,
    vreinterpretq_u32_u8, vshlq_n_u32, vshrq_n_u32, vsliq_n_u32, vst1_f32, vst1q_f32,
    vst1q_lane_f32, vst1q_u32, vsubq_f32,
};
use std::arch::asm;

const _: () = assert!(cfg!(target_feature = "neon"));

/// NEON: four registers.
#[derive(Debug, Clone, Copy)]
pub struct Neon;

macro_rules! each {
    ($(fn $name:ident($($arg:ident: $ty:ident),*) -> $ret:ident { $of_one:expr })*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self::$ty),*) -> Self::$ret {
            let one = |i: usize| {
                $(let $arg = $arg[i];)*
                // SAFETY: see the head of the module.
                unsafe { $of_one }
            };
            [one(0), one(1), one(2), one(3)]
        })*
    };
}

/// The bytes of the first four words' numbers, in memory.
const BYTES: u32 = u32::from_ne_bytes([0, 1, 2, 3]);
/// One in each byte.
const ONES: u32 = 0x0101_0101;

/// For each choice of four lanes the bytes of the chosen ones, from the first on; how many lanes
/// they are.
const CHOICES: [([u8; 16], u8); 16] = {
    let mut choices = [([0; 16], 0); 16];
    let mut bits = 0;
    while bits < 16 {
        let (bytes, count) = &mut choices[bits];
        let mut byte = 0;
        while byte < 16 {
            if bits >> (byte / 4) & 1 == 1 {
                bytes[4 * *count as usize + byte % 4] = byte as u8;
                if byte % 4 == 3 {
                    *count += 1;
                }
            }
            byte += 1;
        }
        bits += 1;
    }
    choices
};

impl Lanes for Neon {
    type V = [float32x4_t; 4];
    type I = [uint32x4_t; 4];

    each! {
        fn add(a: V, b: V) -> V { vaddq_f32(a, b) }
        fn sub(a: V, b: V) -> V { vsubq_f32(a, b) }
        fn mul(a: V, b: V) -> V { vmulq_f32(a, b) }
        fn div(a: V, b: V) -> V { vdivq_f32(a, b) }
        fn fma(a: V, b: V, c: V) -> V { vfmaq_f32(c, a, b) }
        // NEON's own maximum and minimum differ for NaN and for zeros of different signs.
        fn max(a: V, b: V) -> V { vbslq_f32(vcgtq_f32(a, b), a, b) }
        fn min(a: V, b: V) -> V { vbslq_f32(vcltq_f32(a, b), a, b) }
        fn reaching(x: V, low: V, yes: V) -> V {
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(yes), vcgeq_f32(x, low)))
        }
        fn between(x: V, low: V, high: V, yes: V, no: V) -> V {
            vbslq_f32(vandq_u32(vcgeq_f32(x, low), vcleq_f32(x, high)), yes, no)
        }
        fn bits(v: V) -> I { vreinterpretq_u32_f32(v) }
        fn of_bits(i: I) -> V { vreinterpretq_f32_u32(i) }
        fn nearer(a: V, b: V) -> V {
            vreinterpretq_f32_u32(vminq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)))
        }
        fn to_exponent(i: I) -> I { vshlq_n_u32::<20>(i) }
        fn add_int(a: I, b: I) -> I { vaddq_u32(a, b) }
        fn and(a: I, b: I) -> I { vandq_u32(a, b) }
        fn truncate(v: V) -> I { vreinterpretq_u32_s32(vcvtq_s32_f32(v)) }
        fn to_float(i: I) -> V { vcvtq_f32_s32(vreinterpretq_s32_u32(i)) }
        fn power_of_two(shifted: V) -> V {{
            let bits = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
            vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(0x3F80_0000)))
        }}
        fn larger_size(a: V, b: V) -> V {{
            let [a, b] = [vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(vabsq_f32(b))];
            vreinterpretq_f32_u32(vmaxq_u32(a, b))
        }}
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: see the head of the module.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        let from = from.as_ptr();
        // SAFETY: see the head of the module.
        let one = |i: usize| unsafe { vld1q_f32(from.add(4 * i)) };
        [one(0), one(1), one(2), one(3)]
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: see the head of the module.
        unsafe {
            vst1q_f32(to, v[0]);
            vst1q_f32(to.add(4), v[1]);
            vst1q_f32(to.add(8), v[2]);
            vst1q_f32(to.add(12), v[3]);
        }
    }
    #[inline(always)]
    fn splat_int(self, x: u32) -> Self::I {
        // SAFETY: see the head of the module.
        unsafe { [vdupq_n_u32(x); 4] }
    }
    #[inline(always)]
    fn load_int(self, from: &[u32; LANES]) -> Self::I {
        let from = from.as_ptr();
        // SAFETY: see the head of the module.
        let one = |i: usize| unsafe { vld1q_u32(from.add(4 * i)) };
        [one(0), one(1), one(2), one(3)]
    }
    #[inline(always)]
    fn store_int(self, i: Self::I, to: &mut [u32; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: see the head of the module.
        unsafe {
            vst1q_u32(to, i[0]);
            vst1q_u32(to.add(4), i[1]);
            vst1q_u32(to.add(8), i[2]);
            vst1q_u32(to.add(12), i[3]);
        }
    }
    #[inline(always)]
    fn at_least(self, a: Self::V, b: Self::V) -> u16 {
        const LANE: [u32; LANES] =
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768];
        let lane = self.load_int(&LANE);
        // SAFETY: see the head of the module.
        let one = |i: usize| unsafe { vandq_u32(vcgeq_f32(a[i], b[i]), lane[i]) };
        // SAFETY: see the head of the module.
        unsafe {
            let halves = [vorrq_u32(one(0), one(1)), vorrq_u32(one(2), one(3))];
            vaddvq_u32(vorrq_u32(halves[0], halves[1])) as u16
        }
    }
    #[inline(always)]
    fn eighths(self, table: Self::I, i: Self::I) -> Self::I {
        // SAFETY: see the head of the module.
        i.map(|i| unsafe {
            let table =
                uint8x16x2_t(vreinterpretq_u8_u32(table[0]), vreinterpretq_u8_u32(table[1]));
            // The places of a word's four bytes.
            let places = vandq_u32(i, vdupq_n_u32(7));
            let places = vmlaq_u32(vdupq_n_u32(BYTES), places, vdupq_n_u32(4 * ONES));
            vreinterpretq_u32_u8(vqtbl2q_u8(table, vreinterpretq_u8_u32(places)))
        })
    }
    #[inline(always)]
    fn compress(self, v: Self::V, bits: u16, to: &mut [f32; LANES]) -> usize {
        // SAFETY: of the same size and alignment, and any word is a float's bits.
        let to = unsafe { &mut *to.as_mut_ptr().cast() };
        self.compress_int(self.bits(v), bits, to)
    }
    #[inline(always)]
    fn compress_int(self, i: Self::I, bits: u16, to: &mut [u32; LANES]) -> usize {
        let mut count = 0;
        for (part, i) in i.into_iter().enumerate() {
            let (bytes, chosen) = &CHOICES[usize::from(bits >> (4 * part) & 15)];
            // SAFETY: see the head of the module; each of the parts before has given at most four
            // lanes.
            unsafe {
                let i = vqtbl1q_u8(vreinterpretq_u8_u32(i), vld1q_u8(bytes.as_ptr()));
                vst1q_u32(to.as_mut_ptr().add(count), vreinterpretq_u32_u8(i));
            }
            count += usize::from(*chosen);
        }
        count
    }
    #[inline(always)]
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V {
        const { assert!(R <= LANES) }
        let mut out = self.splat(0.0);
        for (i, out) in out.iter_mut().enumerate() {
            let from = from.as_ptr().wrapping_add(4 * i);
            // SAFETY: see the head of the module; only the array's elements are read.
            *out = unsafe {
                match R.saturating_sub(4 * i) {
                    0 => *out,
                    1 => vld1q_lane_f32::<0>(from, *out),
                    2 => vcombine_f32(vld1_f32(from), vdup_n_f32(0.0)),
                    3 => {
                        let two = vcombine_f32(vld1_f32(from), vdup_n_f32(0.0));
                        vld1q_lane_f32::<2>(from.add(2), two)
                    }
                    _ => vld1q_f32(from),
                }
            };
        }
        out
    }
    #[inline(always)]
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]) {
        const { assert!(R <= LANES) }
        for (i, v) in v.into_iter().enumerate() {
            let to = to.as_mut_ptr().wrapping_add(4 * i).cast::<f32>();
            // SAFETY: see the head of the module; only the array's elements are written.
            unsafe {
                match R.saturating_sub(4 * i) {
                    0 => {}
                    1 => vst1q_lane_f32::<0>(to, v),
                    2 => vst1_f32(to, vget_low_f32(v)),
                    3 => {
                        vst1_f32(to, vget_low_f32(v));
                        vst1q_lane_f32::<2>(to.add(2), v);
                    }
                    _ => vst1q_f32(to, v),
                }
            }
        }
    }
    #[inline(always)]
    fn low_halves(self, line: &Line) -> Self::V {
        self.load(&line.0).map(|words| {
            // SAFETY: see the head of the module.
            unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(words))) }
        })
    }
    #[inline(always)]
    fn high_halves(self, line: &Line) -> Self::V {
        self.load(&line.0).map(|words| {
            // SAFETY: see the head of the module.
            unsafe {
                let words = vreinterpretq_u32_f32(words);
                vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xFFFF_0000)))
            }
        })
    }
    #[inline(always)]
    fn float16(self, v: Self::V) -> Self::V {
        v.map(|v| {
            // SAFETY: see the head of the module.
            unsafe {
                let (bits, mask) = (vreinterpretq_u32_f32(v), vdupq_n_u32(FLOAT16_SIZE));
                let size = vreinterpretq_f32_u32(vshrq_n_u32::<3>(vandq_u32(bits, mask)));
                let size = vmulq_n_f32(size, FLOAT16_SCALE);
                let sign = vbicq_u32(bits, mask);
                vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(size), sign))
            }
        })
    }
    #[inline(always)]
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        let one = |i: usize| {
            // SAFETY: see the head of the module.
            unsafe {
                let mut words = vreinterpretq_u32_f32(v[3][i]);
                for v in [v[2], v[1], v[0]] {
                    // Inserts the words shifted left above the lowest byte of the other.
                    words = vsliq_n_u32::<8>(vreinterpretq_u32_f32(v[i]), words);
                }
                vreinterpretq_f32_u32(words)
            }
        };
        [one(0), one(1), one(2), one(3)]
    }
    #[inline(always)]
    fn prefetch_l2(self, line: *const Line) {
        // SAFETY: a prefetch of an invalid address has no effect.
        unsafe {
            asm!(
                "prfm pldl2keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[inline(always)]
    fn prefetch_l1(self, line: *const Line) {
        // SAFETY: a prefetch of an invalid address has no effect.
        unsafe {
            asm!(
                "prfm pldl1keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
}
