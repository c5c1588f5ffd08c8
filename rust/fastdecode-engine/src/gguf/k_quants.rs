//! Elements of the K-quants: blocks of 256 elements, in groups of 16 or 32 whose scales are quantised, too.

use super::dequantise::{each, fields, half};

pub(super) fn q2_k(from: &[u8], to: &mut [f32]) {
    each::<84, 256>(from, to, |block, to| {
        fields!(block => scales: 16, values: 64, scale: 2, least: 2);
        let (scale, least) = (half(*scale), half(*least));
        for (group, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let packed = scales[group];
            let d = scale * f32::from(packed & 15);
            let m = least * f32::from(packed >> 4);
            let (bytes, shift) = two_bits(values, group);
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = d * f32::from(byte >> shift & 3) - m;
            }
        }
    });
}

pub(super) fn q3_k(from: &[u8], to: &mut [f32]) {
    each::<110, 256>(from, to, |block, to| {
        fields!(block => high: 32, values: 64, scales: 12, scale: 2);
        let scale = half(*scale);
        for (group, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            // Six bits: four in the first eight bytes, two in the last four.
            let low = scales[group % 8] >> (group / 8 * 4) & 15;
            let up = scales[8 + group % 4] >> (group / 4 * 2) & 3;
            let d = scale * f32::from((low | (up << 4)).cast_signed() - 32);
            let (bytes, shift) = two_bits(values, group);
            let high = &high[group % 2 * 16..][..16];
            for ((to, byte), high) in to.iter_mut().zip(bytes).zip(high) {
                // The third bit is stored inverted: it subtracts 4 where it is 0.
                let less = ((!high >> (group / 2) & 1) << 2).cast_signed();
                *to = d * f32::from(((byte >> shift) & 3).cast_signed() - less);
            }
        }
    });
}

/// The bytes with two bits of each element of a group of 16, and the shift to them. 32 bytes hold four
/// times 32 elements.
fn two_bits(values: &[u8; 64], group: usize) -> (&[u8], usize) {
    (&values[group / 8 * 32 + group % 2 * 16..][..16], group / 2 % 4 * 2)
}

pub(super) fn q4_k(from: &[u8], to: &mut [f32]) {
    each::<144, 256>(from, to, |block, to| {
        fields!(block => scale: 2, least: 2, scales: 12, values: 128);
        let (scale, least) = (half(*scale), half(*least));
        for (group, to) in to.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (d, m) = scale_and_least(scales, group);
            let (d, m) = (scale * f32::from(d), least * f32::from(m));
            let shift = group % 2 * 4;
            for (to, byte) in to.iter_mut().zip(&values[group / 2 * 32..]) {
                *to = d * f32::from(byte >> shift & 15) - m;
            }
        }
    });
}

pub(super) fn q5_k(from: &[u8], to: &mut [f32]) {
    each::<176, 256>(from, to, |block, to| {
        fields!(block => scale: 2, least: 2, scales: 12, high: 32, values: 128);
        let (scale, least) = (half(*scale), half(*least));
        for (group, to) in to.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (d, m) = scale_and_least(scales, group);
            let (d, m) = (scale * f32::from(d), least * f32::from(m));
            let shift = group % 2 * 4;
            for ((to, byte), high) in to.iter_mut().zip(&values[group / 2 * 32..]).zip(high) {
                let q = byte >> shift & 15 | (high >> group & 1) << 4;
                *to = d * f32::from(q) - m;
            }
        }
    });
}

/// The six-bit scale and least value of a group of `Q4_K` or `Q5_K`.
fn scale_and_least(packed: &[u8; 12], group: usize) -> (u8, u8) {
    let [scale, least] = [packed[group % 4], packed[4 + group % 4]];
    if group < 4 {
        return (scale & 63, least & 63);
    }
    // The upper two bits of the later groups are those that the earlier ones leave.
    let both = packed[8 + group % 4];
    ((both & 15) | (scale >> 6 << 4), (both >> 4) | (least >> 6 << 4))
}

pub(super) fn q6_k(from: &[u8], to: &mut [f32]) {
    each::<210, 256>(from, to, |block, to| {
        fields!(block => low: 128, high: 64, scales: 16, scale: 2);
        let scale = half(*scale);
        for (group, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = scale * f32::from(scales[group].cast_signed());
            // 64 bytes hold the low halves of 128 elements, and 32 bytes two more bits of each.
            let (part, within) = (group / 8, group % 8);
            let low = &low[part * 64 + within % 4 * 16..][..16];
            let high = &high[part * 32 + within % 2 * 16..][..16];
            let (low_shift, high_shift) = (within / 4 * 4, within / 2 * 2);
            for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
                let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
                *to = d * f32::from(q.cast_signed() - 32);
            }
        }
    });
}

pub(super) fn q8_k(from: &[u8], to: &mut [f32]) {
    each::<292, 256>(from, to, |block, to| {
        // Sums of groups follow, which only products need.
        fields!(block => scale: 4, values: 256);
        let scale = f32::from_le_bytes(*scale);
        for (to, &q) in to.iter_mut().zip(values) {
            *to = scale * f32::from(q.cast_signed());
        }
    });
}
