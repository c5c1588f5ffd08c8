//! Arrays, and the vectors that the compiler makes of them.

use super::{FLOAT16_SCALE, FLOAT16_SIZE, LANES, Lanes, compress_each};
use crate::line::Line;

/// Plain arrays, which work on every target.
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

impl Lanes for Portable {
    type V = [f32; LANES];
    type I = [u32; LANES];

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
    fn reaching(self, x: Self::V, low: Self::V, yes: Self::V) -> Self::V {
        let mut out = yes;
        for i in 0..LANES {
            out[i] = if x[i] >= low[i] { yes[i] } else { 0.0 };
        }
        out
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
    fn nearer(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| f32::from_bits(x.to_bits().min(y.to_bits())))
    }
    #[inline(always)]
    fn to_exponent(self, i: Self::I) -> Self::I {
        i.map(|x| x << 20)
    }
    #[inline(always)]
    fn eighths(self, table: Self::I, i: Self::I) -> Self::I {
        i.map(|x| table[(x % 8) as usize])
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
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    fn low_halves(self, line: &Line) -> Self::V {
        line.words().map(|word| f32::from_bits(word << 16))
    }
    #[inline(always)]
    fn high_halves(self, line: &Line) -> Self::V {
        line.words().map(|word| f32::from_bits(word & 0xFFFF_0000))
    }
    #[inline(always)]
    fn first<const R: usize>(self, from: &[f32; R]) -> Self::V {
        let mut out = [0.0; LANES];
        out[..R].copy_from_slice(from);
        out
    }
    #[inline(always)]
    fn put_first<const R: usize>(self, v: Self::V, to: &mut [i32; R]) {
        for (to, v) in to.iter_mut().zip(v) {
            *to = v.to_bits().cast_signed();
        }
    }
    #[inline(always)]
    fn larger_size(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| f32::from_bits(a.to_bits().max(b.to_bits() & 0x7FFF_FFFF)))
    }
    #[inline(always)]
    fn float16(self, v: Self::V) -> Self::V {
        v.map(|x| {
            let size = f32::from_bits((x.to_bits() & FLOAT16_SIZE) >> 3) * FLOAT16_SCALE;
            f32::from_bits(size.to_bits() | x.to_bits() & !FLOAT16_SIZE)
        })
    }
    #[inline(always)]
    fn low_bytes(self, v: [Self::V; 4]) -> Self::V {
        let mut out = [0.0; LANES];
        for (i, out) in out.iter_mut().enumerate() {
            *out = f32::from_bits(u32::from_le_bytes(v.map(|v| v[i].to_bits() as u8)));
        }
        out
    }
    #[inline(always)]
    fn power_of_two(self, shifted: Self::V) -> Self::V {
        shifted.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(0x3F80_0000)))
    }
}
