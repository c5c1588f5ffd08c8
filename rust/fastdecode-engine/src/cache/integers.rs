//! How the keys and values of a head lie in a chunk in int8.
//!
//! Keys and values are bytes with 128 for zero, four to a word, as int8 weights are. A line of keys holds four
//! dimensions of the sixteen positions, a line of values four positions of sixteen dimensions. One line of
//! scales, a position in each lane, follows the keys, and another one the values.

use crate::weights::{QUAD, ZERO};
use fastdecode_simd::{LANES, Line};

/// Lines of the keys of a head.
pub const fn key_lines(width: usize) -> usize {
    width.div_ceil(QUAD) + 1
}

/// Lines of the values of a head.
pub const fn value_lines(width: usize) -> usize {
    LANES / QUAD * width.div_ceil(LANES) + 1
}

/// Writes the key of the position in lane `lane`: its integers' low bytes are those of `key`, which is a multiple
/// of four long.
#[inline(always)]
pub fn write_key(keys: &mut [Line], lane: usize, key: &[i8], scale: f32) {
    let (scales, keys) = keys.split_last_mut().expect("a line of scales");
    scales.0[lane] = scale;
    for (line, quad) in keys.iter_mut().zip(key.as_chunks::<QUAD>().0) {
        let bytes = quad.map(|x| x.cast_unsigned() ^ ZERO as u8);
        line.words_mut()[lane] = u32::from_ne_bytes(bytes);
    }
}

/// Writes the value of the position in lane `lane`; `value` is a multiple of sixteen long.
#[inline(always)]
pub fn write_value(values: &mut [Line], lane: usize, value: &[i8], scale: f32) {
    let (scales, values) = values.split_last_mut().expect("a line of scales");
    scales.0[lane] = scale;
    let vectors = value.len() / LANES;
    let lines = values[lane / QUAD * vectors..].iter_mut();
    for (line, vector) in lines.zip(value.as_chunks::<LANES>().0) {
        for (quad, x) in line.bytes_mut().as_chunks_mut::<QUAD>().0.iter_mut().zip(vector) {
            quad[lane % QUAD] = x.cast_unsigned() ^ ZERO as u8;
        }
    }
}

/// The scales of the sixteen positions of the keys or the values of a head.
#[inline(always)]
pub fn scales(lines: &[Line]) -> &Line {
    lines.last().expect("a line of scales")
}

#[cfg(test)]
mod tests {
    use super::{key_lines, scales, value_lines, write_key, write_value};
    use fastdecode_simd::{LANES, Line};

    #[test]
    fn what_is_written_is_read() {
        for width in [1, 5, 15, 16, 20, 40, 47, 64] {
            let x = |position: usize, i: usize| ((position * 7 + i) % 255).wrapping_sub(127) as i8;
            let mut keys = vec![Line([f32::NAN; 16]); key_lines(width)];
            let mut values = vec![Line([f32::NAN; 16]); value_lines(width)];
            for position in [3, 0, 1, 2].into_iter().chain(4..LANES) {
                let vector: Vec<i8> = (0..width.next_multiple_of(LANES))
                    .map(|i| if i < width { x(position, i) } else { 0 })
                    .collect();
                let scale = position as f32;
                write_key(&mut keys, position, &vector[..width.next_multiple_of(4)], scale);
                write_value(&mut values, position, &vector, -scale);
            }
            let vectors = width.div_ceil(LANES);
            for position in 0..LANES {
                assert_eq!(scales(&keys).0[position], position as f32);
                assert_eq!(scales(&values).0[position], -(position as f32));
                for i in 0..width {
                    let key = keys[i / 4].bytes()[4 * position + i % 4];
                    let line = &values[position / 4 * vectors + i / LANES];
                    let value = line.bytes()[i % LANES * 4 + position % 4];
                    let bytes = [key, value].map(|byte| (byte ^ 128).cast_signed());
                    assert_eq!(bytes, [x(position, i); 2]);
                }
            }
        }
    }
}
