//! The quantiser of int4 weights.

use super::groups::{LARGEST, LINES_OF_4};
use super::{ACROSS, GROUP, PANEL, QUAD, ZERO_OF_4};
use fastdecode_simd::{LANES, Line, ROUNDER};
use half::f16;

/// The least and the largest integer.
const LEAST: f32 = -8.0;
const MOST: f32 = 7.0;
/// The values, in units of the scale, that the weight of the largest size is mapped to in the candidates. They
/// are negative, whatever its sign, because there is one more negative integer than positive ones.
const TRIED: [f32; 7] = [-8.75, -8.35, -8.0, -7.7, -7.4, -7.1, -6.8];

/// Lines of a group.
const GROUP_LINES: usize = LINES_OF_4 + 1;

/// Packs the panel `rows`, which has 32 outputs for each input.
///
/// Of several scales for a group, the one that leaves the least sum of squared errors is taken, where each
/// has been replaced by the best one for the integers that it led to. This is the search of llama.cpp's
/// quantisers for formats of this kind (`make_qx_quants`), with all weights counted alike.
pub(super) fn pack(rows: &[[f32; PANEL]], lines: &mut [Line]) {
    for (rows, lines) in rows.chunks(GROUP).zip(lines.as_chunks_mut::<GROUP_LINES>().0) {
        let scales = scales_of(rows);
        let inverse = scales.map(|scale| {
            let scale = scale.to_f32();
            if scale == 0.0 { 0.0 } else { 1.0 / scale }
        });
        let mut words = [[0u32; PANEL]; GROUP / QUAD];
        for (k, words) in words.iter_mut().enumerate() {
            for input in 0..QUAD {
                let row = rows.get(k * QUAD + input).unwrap_or(&[0.0; PANEL]);
                for ((word, x), inverse) in words.iter_mut().zip(row).zip(inverse) {
                    let nibble = rounded(x * inverse) as i32 + ZERO_OF_4;
                    *word |= nibble.cast_unsigned() << (8 * input);
                }
            }
        }
        for (i, words) in words.as_chunks::<2>().0.iter().enumerate() {
            for vector in 0..ACROSS {
                let line = lines[ACROSS * i + vector].words_mut();
                for (lane, word) in line.iter_mut().enumerate() {
                    let output = vector * LANES + lane;
                    *word = (words[0][output] | words[1][output] << 4).to_le();
                }
            }
        }
        for (lane, word) in lines[GROUP_LINES - 1].words_mut().iter_mut().enumerate() {
            let bits = |output: usize| u32::from(scales[output].to_bits());
            *word = bits(lane) | bits(LANES + lane) << 16;
        }
    }
}

/// The nearest integer that four bits hold, ties to even.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    (x.clamp(LEAST, MOST) + ROUNDER) - ROUNDER
}

/// The scale of each output.
fn scales_of(rows: &[[f32; PANEL]]) -> [f16; PANEL] {
    // The weight of the largest size, the first of several.
    let mut largest = [0.0f32; PANEL];
    for row in rows {
        for (largest, x) in largest.iter_mut().zip(row) {
            *largest = if x.abs() > largest.abs() { *x } else { *largest };
        }
    }
    let (mut best, mut most) = ([0.0f32; PANEL], [0.0f32; PANEL]);
    for tried in TRIED {
        let inverse = largest.map(|largest| if largest == 0.0 { 0.0 } else { tried / largest });
        let (mut with_weights, mut with_itself) = ([0.0f32; PANEL], [0.0f32; PANEL]);
        for row in rows {
            for (output, x) in row.iter().enumerate() {
                let integer = rounded(x * inverse[output]);
                with_weights[output] += x * integer;
                with_itself[output] += integer * integer;
            }
        }
        for output in 0..PANEL {
            let (product, square) = (with_weights[output], with_itself[output]);
            // The squared errors are those of zeros less this.
            let gain = if square > 0.0 { product * product / square } else { 0.0 };
            if gain > most[output] {
                (best[output], most[output]) = (product / square, gain);
            }
        }
    }
    best.map(|best| f16::from_f32(best.clamp(-LARGEST, LARGEST)))
}

#[cfg(test)]
mod tests {
    use super::{GROUP, GROUP_LINES, PANEL, pack};
    use crate::weights::format::{Format, groups};
    use fastdecode_core::philox::philox4x32;
    use fastdecode_simd::Line;

    fn noise(i: usize) -> f32 {
        let uniform = |word: u32| (word >> 8) as f32 / (1 << 24) as f32 - 0.5;
        philox4x32([i as u32, 0, 0, 0], [7, 9]).into_iter().map(uniform).sum()
    }

    fn integer_and_scale(lines: &[Line], k: usize, output: usize) -> (i32, f32) {
        let (integer, scale, _) = groups::parts(Format::Int4, lines, k, output);
        (integer, scale)
    }

    fn packed(rows: &[[f32; PANEL]]) -> Vec<Line> {
        let mut lines = vec![Line::ZERO; rows.len().div_ceil(GROUP) * GROUP_LINES];
        pack(rows, &mut lines);
        lines
    }

    #[test]
    fn multiples_of_a_scale_are_kept_exactly() {
        for scale in [0.5f32, -3.0, 1.0 / 1024.0] {
            let rows: Vec<[f32; PANEL]> = (0..GROUP + 5)
                .map(|k| std::array::from_fn(|o| ((k * 5 + o) % 16) as f32 * scale - 8.0 * scale))
                .collect();
            let lines = packed(&rows);
            for (k, row) in rows.iter().enumerate().take(GROUP) {
                for (output, x) in row.iter().enumerate() {
                    let (integer, scale) = integer_and_scale(&lines, k, output);
                    assert_eq!(integer as f32 * scale, *x, "{k} {output}");
                }
            }
        }
    }

    #[test]
    fn the_search_loses_less_than_the_largest_weight_as_the_end() {
        let rows: Vec<[f32; PANEL]> =
            (0..4 * GROUP).map(|k| std::array::from_fn(|o| noise(k * PANEL + o))).collect();
        let lines = packed(&rows);
        let (mut found, mut plain) = (0.0f64, 0.0f64);
        for (group, rows) in rows.chunks(GROUP).enumerate() {
            for output in 0..PANEL {
                let column = rows.iter().map(|row| row[output]);
                let largest =
                    column.clone().fold(0.0f32, |a, x| if x.abs() > a.abs() { x } else { a });
                let scale = largest / -8.0;
                for (k, x) in column.enumerate() {
                    let (integer, ours) = integer_and_scale(&lines, group * GROUP + k, output);
                    let error = |y: f32| f64::from(x - y).powi(2);
                    found += error(integer as f32 * ours);
                    plain += error((x / scale).round().clamp(-8.0, 7.0) * scale);
                }
            }
        }
        assert!(found < 0.9 * plain, "{found} {plain}");
    }

    #[test]
    fn zeros_and_sizes_beyond_float16_stay_finite() {
        let rows = [[0.0; PANEL], [1e30; PANEL], [-1e-30; PANEL]];
        for row in rows {
            let lines = packed(&[row]);
            let (integer, scale) = integer_and_scale(&lines, 0, 3);
            assert!(scale.is_finite() && (row[0] != 0.0 || integer == 0));
        }
    }
}
