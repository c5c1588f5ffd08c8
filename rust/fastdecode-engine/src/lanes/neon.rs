//! NEON.

// SAFETY of every block in this module: the intrinsics need nothing but NEON, which the target
// has, as is made sure of here. Loads and stores need no alignment and go over references to 16
// floats, or over as many elements as an array has.
use super::{LANES, Lanes, Line};
use std::arch::aarch64::{
    float32x4_t, vabsq_f32, vaddq_f32, vaddq_u32, vandq_u32, vbslq_f32, vcgtq_f32, vcltq_f32,
    vcombine_f32, vdivq_f32, vdup_n_f32, vdupq_n_f32, vdupq_n_u32, vfmaq_f32, vget_low_f32,
    vld1_f32, vld1q_f32, vld1q_lane_f32, vmaxq_u32, vmulq_f32, vreinterpretq_f32_u32,
    vreinterpretq_u32_f32, vshlq_n_u32, vsliq_n_u32, vst1_f32, vst1q_f32, vst1q_lane_f32,
    vsubq_f32,
};
use std::arch::asm;

const _: () = assert!(cfg!(target_feature = "neon"));

/// NEON: four registers.
#[derive(Debug, Clone, Copy)]
pub struct Neon;

macro_rules! each {
    ($(fn $name:ident($($arg:ident),*) { $of_one:expr })*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> Self::V {
            let one = |i: usize| {
                $(let $arg = $arg[i];)*
                // SAFETY: see the head of the module.
                unsafe { $of_one }
            };
            [one(0), one(1), one(2), one(3)]
        })*
    };
}

impl Lanes for Neon {
    type V = [float32x4_t; 4];
    // Of 32 registers 24 have sums, 4 the weights, and the rest the activations, of which an
    // instruction takes one lane. Nothing is read across a prefetch, so weights of two vectors take
    // 8 registers at once, and those of four 16: with more than these, sums were kept in memory.
    const ACROSS: usize = 1;
    const ROWS: usize = 6;
    const ROWS_OF_TWO: usize = 2;
    const LONE: usize = 2;

    #[inline(always)]
    fn prefetch(self, line: *const Line) {
        // Into the second cache, as with x86-64: what is asked for there is 16 KB.
        // SAFETY: a hint, which does nothing where nothing is.
        unsafe {
            asm!(
                "prfm pldl2keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[inline(always)]
    fn prefetch_soon(self, line: *const Line) {
        // SAFETY: a hint, which does nothing where nothing is.
        unsafe {
            asm!(
                "prfm pldl1keep, [{line}]",
                line = in(reg) line,
                options(nostack, preserves_flags, readonly)
            );
        }
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
    each! {
        fn add(a, b) { vaddq_f32(a, b) }
        fn sub(a, b) { vsubq_f32(a, b) }
        fn mul(a, b) { vmulq_f32(a, b) }
        fn div(a, b) { vdivq_f32(a, b) }
        fn fma(a, b, c) { vfmaq_f32(c, a, b) }
        // NEON's own maximum and minimum are others with NaN and with zeros of two signs.
        fn max(a, b) { vbslq_f32(vcgtq_f32(a, b), a, b) }
        fn min(a, b) { vbslq_f32(vcltq_f32(a, b), a, b) }
        fn power_of_two(shifted) {{
            let bits = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
            vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(0x3F80_0000)))
        }}
        fn larger_size(a, b) {{
            let [a, b] = [vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(vabsq_f32(b))];
            vreinterpretq_f32_u32(vmaxq_u32(a, b))
        }}
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
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        let one = |i: usize| {
            // SAFETY: see the head of the module.
            unsafe {
                let mut words = vreinterpretq_u32_f32(v[3][i]);
                for v in [v[2], v[1], v[0]] {
                    // Shifted left, above the lowest byte of what is there.
                    words = vsliq_n_u32::<8>(vreinterpretq_u32_f32(v[i]), words);
                }
                vreinterpretq_f32_u32(words)
            }
        };
        [one(0), one(1), one(2), one(3)]
    }
}
