//! Elements of the plain formats, and of the encodings with blocks of 32.
//!
//! In a block of 32, byte `i` of the four-bit part holds element `i` in its low half and element `i + 16` in
//! its high half.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

pub(super) fn f32(from: &[u8], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
        *to = f32::from_le_bytes(*from);
    }
}

pub(super) fn f16(from: &[u8], to: &mut [f32]) {
    widen_halves(from.as_chunks().0, to);
}

/// Float16 as float32, exactly.
///
/// Many at a time, because which instructions the machine has is found out for each conversion.
pub(crate) fn widen_halves(from: &[[u8; 2]], to: &mut [f32]) {
    let mut halves = [f16::ZERO; 256];
    for (to, from) in to.chunks_mut(halves.len()).zip(from.chunks(halves.len())) {
        for (half, from) in halves.iter_mut().zip(from) {
            *half = f16::from_le_bytes(*from);
        }
        halves[..to.len()].convert_to_f32_slice(to);
    }
}

pub(super) fn bf16(from: &[u8], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
        *to = bf16::from_le_bytes(*from).to_f32();
    }
}

/// A float16 of two bytes, exactly as float32.
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Calls `block` for each block of `BYTES` bytes, with room for its `ELEMENTS` elements.
pub(super) fn each<const BYTES: usize, const ELEMENTS: usize>(
    from: &[u8],
    to: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
        block(from, to);
    }
}

/// The first bytes of a block, and the rest of it.
macro_rules! fields {
    ($block:expr => $($name:ident: $size:literal),+) => {
        let mut rest: &[u8] = $block;
        $(
            let ($name, after) = rest.split_first_chunk::<$size>().expect("fields are the block");
            rest = after;
        )+
        let _ = rest;
    };
}
pub(super) use fields;

/// The elements of 16 bytes with two elements each, without and with a fifth bit from `high`.
pub(super) fn nibbles<T>(low: &[u8; 16], to: &mut [T; 32], element: impl Fn(usize, u8) -> T) {
    for (i, byte) in low.iter().enumerate() {
        to[i] = element(i, byte & 15);
        to[i + 16] = element(i + 16, byte >> 4);
    }
}

pub(super) fn q4_0(from: &[u8], to: &mut [f32]) {
    each::<18, 32>(from, to, |block, to| {
        fields!(block => scale: 2, low: 16);
        let scale = half(*scale);
        nibbles(low, to, |_, q| scale * f32::from(q.cast_signed() - 8));
    });
}

pub(super) fn q4_1(from: &[u8], to: &mut [f32]) {
    each::<20, 32>(from, to, |block, to| {
        fields!(block => scale: 2, least: 2, low: 16);
        let (scale, least) = (half(*scale), half(*least));
        nibbles(low, to, |_, q| scale * f32::from(q) + least);
    });
}

pub(super) fn q5_0(from: &[u8], to: &mut [f32]) {
    each::<22, 32>(from, to, |block, to| {
        fields!(block => scale: 2, high: 4, low: 16);
        let (scale, high) = (half(*scale), u32::from_le_bytes(*high));
        nibbles(low, to, |i, q| scale * f32::from(fifth_bit(high, i, q).cast_signed() - 16));
    });
}

pub(super) fn q5_1(from: &[u8], to: &mut [f32]) {
    each::<24, 32>(from, to, |block, to| {
        fields!(block => scale: 2, least: 2, high: 4, low: 16);
        let (scale, least) = (half(*scale), half(*least));
        let high = u32::from_le_bytes(*high);
        nibbles(low, to, |i, q| scale * f32::from(fifth_bit(high, i, q)) + least);
    });
}

pub(super) fn fifth_bit(high: u32, i: usize, q: u8) -> u8 {
    q | ((high >> i & 1) << 4) as u8
}

pub(super) fn q8_0(from: &[u8], to: &mut [f32]) {
    each::<34, 32>(from, to, |block, to| {
        fields!(block => scale: 2, values: 32);
        let scale = half(*scale);
        for (to, &q) in to.iter_mut().zip(values) {
            *to = f32::from(q.cast_signed()) * scale;
        }
    });
}

/// The values that four bits of `IQ4_NL` stand for.
pub(super) const LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) fn iq4_nl(from: &[u8], to: &mut [f32]) {
    each::<18, 32>(from, to, |block, to| {
        fields!(block => scale: 2, low: 16);
        let scale = half(*scale);
        nibbles(low, to, |_, q| scale * f32::from(LEVELS[usize::from(q)]));
    });
}
