//! How the keys and values of a head lie in a chunk in bfloat16.
//!
//! A line of keys holds two dimensions of the sixteen positions, a line of values sixteen dimensions of two
//! positions; the first of the two is in the low halves of the words. The last line of an odd number of
//! dimensions, and the last lines of values whose width is no multiple of sixteen, have unused places.

use fastdecode_simd::{LANES, Line};

/// Lines of the keys of a head.
pub const fn key_lines(width: usize) -> usize {
    width.div_ceil(2)
}

/// Lines of the values of a head.
pub const fn value_lines(width: usize) -> usize {
    LANES / 2 * width.div_ceil(LANES)
}

/// The bits of a float rounded to bfloat16, ties to even, in the low half of a word. NaN stays NaN.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { nearest }
}

/// Writes the key of the position in lane `lane`.
#[inline(always)]
pub fn write_key(keys: &mut [Line], lane: usize, key: &[f32]) {
    for (line, pair) in keys.iter_mut().zip(key.chunks(2)) {
        let high = pair.get(1).map_or(0, |x| rounded(*x));
        line.words_mut()[lane] = rounded(pair[0]) | high << 16;
    }
}

/// Writes the value of the position in lane `lane`.
#[inline(always)]
pub fn write_value(values: &mut [Line], lane: usize, value: &[f32]) {
    let vectors = value.len().div_ceil(LANES);
    let shift = lane % 2 * 16;
    let others = 0xFFFF_0000 >> shift;
    for (line, vector) in values[lane / 2 * vectors..].iter_mut().zip(value.chunks(LANES)) {
        for (word, x) in line.words_mut().iter_mut().zip(vector) {
            *word = *word & others | rounded(*x) << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{key_lines, rounded, value_lines, write_key, write_value};
    use fastdecode_simd::{LANES, Line};

    #[test]
    fn rounds_as_the_crate_does() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                assert_eq!(rounded(x), u32::from(half::bf16::from_f32(x).to_bits()), "{x}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for width in [1, 5, 15, 16, 20, 40, 47, 64] {
            let x = |position: usize, i: usize| (position * 8 + i) as f32;
            let bits = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
            let mut keys = vec![Line([f32::NAN; 16]); key_lines(width)];
            let mut values = vec![Line([f32::NAN; 16]); value_lines(width)];
            for position in [3, 0, 1, 2].into_iter().chain(4..LANES) {
                let vector: Vec<f32> = (0..width).map(|i| x(position, i)).collect();
                write_key(&mut keys, position, &vector);
                write_value(&mut values, position, &vector);
            }
            let vectors = width.div_ceil(LANES);
            for position in 0..LANES {
                for i in 0..width {
                    let key = keys[i / 2].words()[position] >> (16 * (i % 2)) & 0xFFFF;
                    let line = &values[position / 2 * vectors + i / LANES];
                    let value = line.words()[i % LANES] >> (16 * (position % 2)) & 0xFFFF;
                    assert_eq!([key, value], [bits(x(position, i)); 2]);
                }
            }
        }
    }
}
