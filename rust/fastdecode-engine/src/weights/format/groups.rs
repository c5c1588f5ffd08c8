//! Panels of the formats in groups: 32 inputs of an output share a scale, and an offset in one of them.
//!
//! A group is 32 inputs of a panel's 32 outputs. With eight bits, line `ACROSS * i + vector` has the inputs 4i
//! to 4i + 3 of sixteen outputs, four inputs of an output after each other. With four bits it has the inputs 8i
//! to 8i + 3 in the low halves of its bytes, and 8i + 4 to 8i + 7 in the high ones. Another line has the scales,
//! in float16: those of the first sixteen outputs in the low halves of its words. Offsets have a line like
//! that, too.

use super::{ACROSS, Format, GROUP, PANEL, QUAD, ZERO, ZERO_OF_4};
use crate::gguf::{Encoding, Integers};
use fastdecode_simd::{LANES, Line, ROUNDER};
use half::f16;

/// Lines of a group's integers of four bits.
pub const LINES_OF_4: usize = GROUP * PANEL / (2 * 4 * LANES);
/// Lines of a group's integers of eight bits.
pub const LINES_OF_8: usize = GROUP * PANEL / (4 * LANES);
/// The largest size of a scale or an offset.
pub(super) const LARGEST: f32 = 65504.0;

/// 32 weights of an output, as one of the formats stores them.
pub(crate) struct Block {
    /// Integers of four or of eight bits.
    pub integers: [u8; GROUP],
    pub scale: f16,
    /// Where the format has offsets.
    pub offset: f16,
}

impl Block {
    /// Whether a format holds what is stored in this way without loss.
    pub fn keeps(format: Format, encoding: Encoding) -> bool {
        match format {
            Format::Int4 => encoding.name() == "Q4_0",
            Format::Int4Offsets => matches!(encoding.name(), "Q4_0" | "Q4_1"),
            Format::Int8Groups => encoding.has_integers() && encoding.name() != "Q4_1",
            _ => false,
        }
    }

    /// Integers as a format stores them, if it does without loss.
    pub fn of(format: Format, integers: &Integers) -> Option<Self> {
        let &Integers { values, scale, offset } = integers;
        let from = |zero: i32| values.map(|value| (i32::from(value) + zero) as u8);
        let (integers, offset) = match (format, offset) {
            (Format::Int4, None) => (from(ZERO_OF_4), f16::ZERO),
            (Format::Int4Offsets, None) => (from(ZERO_OF_4), times(scale, -ZERO_OF_4 as f32)?),
            (Format::Int4Offsets, Some(offset)) => (from(0), offset),
            (Format::Int8Groups, None) => (from(ZERO), f16::ZERO),
            _ => return None,
        };
        let most = if format == Format::Int8Groups { u8::MAX } else { 0xF };
        integers.iter().all(|byte| *byte <= most).then_some(Self { integers, scale, offset })
    }
}

/// An exact product, if it is a float16.
fn times(x: f16, factor: f32) -> Option<f16> {
    let product = f16::from_f32(x.to_f32() * factor);
    (product.to_f32() == x.to_f32() * factor).then_some(product)
}

/// Lines of a group of a panel: its integers, the scales, and offsets where the format has them.
pub(crate) fn lines_of_group(format: Format) -> usize {
    lines_of_integers(format) + 1 + usize::from(format == Format::Int4Offsets)
}

fn lines_of_integers(format: Format) -> usize {
    if format == Format::Int8Groups { LINES_OF_8 } else { LINES_OF_4 }
}

/// Puts a block in its place: `group` has the lines of one group of a panel.
pub(crate) fn put(format: Format, block: &Block, output: usize, group: &mut [Line]) {
    let (vector, lane) = (output / LANES, output % LANES);
    let quads = block.integers.as_chunks::<QUAD>().0;
    let word = |i: usize| u32::from_le_bytes(quads[i]).to_le();
    let lines = lines_of_integers(format);
    let step = if lines == LINES_OF_8 { 1 } else { 2 };
    for i in 0..lines / ACROSS {
        let high = if step == 2 { word(2 * i + 1) << 4 } else { 0 };
        group[ACROSS * i + vector].words_mut()[lane] = word(step * i) | high;
    }
    put_half(&mut group[lines], output, block.scale);
    if format == Format::Int4Offsets {
        put_half(&mut group[lines + 1], output, block.offset);
    }
}

fn put_half(line: &mut Line, output: usize, half: f16) {
    let (vector, lane) = (output / LANES, output % LANES);
    let (word, shift) = (&mut line.words_mut()[lane], 16 * vector);
    *word = *word & !(0xFFFF << shift) | u32::from(half.to_bits()) << shift;
}

fn half(line: &Line, output: usize) -> f32 {
    f16::from_bits((line.words()[output % LANES] >> (16 * (output / LANES))) as u16).to_f32()
}

/// One weight of a packed panel, widened: the product is exact, and the sum with an offset is rounded.
pub(super) fn element(format: Format, lines: &[Line], k: usize, output: usize) -> f32 {
    let (integer, scale, offset) = parts(format, lines, k, output);
    let product = integer as f32 * scale;
    if format == Format::Int4Offsets { product + offset } else { product }
}

/// The integer of a weight of a packed panel, and the scale and the offset of its group.
pub(crate) fn parts(format: Format, lines: &[Line], k: usize, output: usize) -> (i32, f32, f32) {
    let size = lines_of_group(format);
    let group = &lines[k / GROUP * size..][..size];
    let (vector, lane, k) = (output / LANES, output % LANES, k % GROUP);
    let byte = |i: usize| group[ACROSS * i + vector].bytes()[lane * QUAD + k % QUAD];
    let nibble = || {
        let byte = byte(k / (2 * QUAD));
        i32::from(if (k / QUAD).is_multiple_of(2) { byte & 0xF } else { byte >> 4 })
    };
    let integers = lines_of_integers(format);
    let scale = half(&group[integers], output);
    match format {
        Format::Int8Groups => (i32::from(byte(k / QUAD)) - ZERO, scale, 0.0),
        Format::Int4Offsets => (nibble(), scale, half(&group[integers + 1], output)),
        _ => (nibble() - ZERO_OF_4, scale, 0.0),
    }
}

/// Packs the panel `rows`, which has 32 outputs for each input, with the nearest integers.
pub(super) fn pack(format: Format, rows: &[[f32; PANEL]], lines: &mut [Line]) {
    let quantise = if format == Format::Int8Groups { with_eight_bits } else { with_offset };
    for (rows, lines) in rows.chunks(GROUP).zip(lines.chunks_exact_mut(lines_of_group(format))) {
        for output in 0..PANEL {
            let mut x = [0.0; GROUP];
            for (x, row) in x.iter_mut().zip(rows) {
                *x = row[output];
            }
            put(format, &quantise(&x), output, lines);
        }
    }
}

/// The largest size becomes 127.
fn with_eight_bits(x: &[f32; GROUP]) -> Block {
    const MOST: f32 = 127.0;
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = no_less(largest / MOST, largest, MOST);
    let integers = integers(x, scale, 0.0, [-MOST, MOST]);
    Block { integers: integers.map(|q| (q + ZERO) as u8), scale, offset: f16::ZERO }
}

/// The least value becomes 0, and the largest 15.
fn with_offset(x: &[f32; GROUP]) -> Block {
    const MOST: f32 = 15.0;
    let least = x.iter().fold(f32::INFINITY, |least, x| least.min(*x));
    let largest = x.iter().fold(f32::NEG_INFINITY, |largest, x| largest.max(*x));
    let offset = f16::from_f32(least.clamp(-LARGEST, LARGEST));
    let reach = largest - offset.to_f32();
    let scale = no_less(reach / MOST, reach, MOST);
    let integers = integers(x, scale, offset.to_f32(), [0.0, MOST]);
    Block { integers: integers.map(|q| q as u8), scale, offset }
}

/// A scale as a float16, the next larger one where `most` of it would otherwise be half a step short of
/// `reach`, as among the least of them.
fn no_less(scale: f32, reach: f32, most: f32) -> f16 {
    let found = f16::from_f32(scale.clamp(0.0, LARGEST));
    let short = found.to_f32() * (most + 0.5) < reach;
    if short && found < f16::MAX { f16::from_bits(found.to_bits() + 1) } else { found }
}

/// The nearest integers between two, ties to even.
fn integers(x: &[f32; GROUP], scale: f16, offset: f32, [least, most]: [f32; 2]) -> [i32; GROUP] {
    let scale = scale.to_f32();
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    x.map(|x| ((((x - offset) * inverse).clamp(least, most) + ROUNDER) - ROUNDER) as i32)
}

#[cfg(test)]
mod tests {
    use super::{Block, Format, GROUP, PANEL, lines_of_group, pack, parts, put};
    use fastdecode_simd::Line;
    use half::f16;

    const GROUPED: [Format; 3] = [Format::Int4, Format::Int4Offsets, Format::Int8Groups];

    #[test]
    fn blocks_are_read_back_from_their_places() {
        for format in GROUPED {
            let size = lines_of_group(format);
            let mut lines = vec![Line::ZERO; 3 * size];
            let bits = if format == Format::Int8Groups { 8 } else { 4 };
            let zero = match format {
                Format::Int4 => 8,
                Format::Int8Groups => 128,
                _ => 0,
            };
            let integer = |group: usize, output: usize, k: usize| {
                ((group * 89 + output * 57 + k * 31) % (1 << bits)) as u8
            };
            let halves = |group: usize, output: usize| {
                (f16::from_bits((group * 32 + output) as u16), f16::from_bits(7 + output as u16))
            };
            for (group, lines) in lines.chunks_mut(size).enumerate() {
                for output in (0..PANEL).rev() {
                    let (scale, offset) = halves(group, output);
                    let integers = std::array::from_fn(|k| integer(group, output, k));
                    put(format, &Block { integers, scale, offset }, output, lines);
                }
            }
            for k in 0..3 * GROUP {
                for output in 0..PANEL {
                    let (scale, offset) = halves(k / GROUP, output);
                    let offset = if format == Format::Int4Offsets { offset.to_f32() } else { 0.0 };
                    let expected = i32::from(integer(k / GROUP, output, k % GROUP)) - zero;
                    let found = parts(format, &lines, k, output);
                    assert_eq!(
                        found,
                        (expected, scale.to_f32(), offset),
                        "{format:?} {k} {output}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_least_scales_reach_the_largest_weights() {
        for format in [Format::Int4Offsets, Format::Int8Groups] {
            for size in [1e-7f32, 7.3e-6, 1.1e-5, 3e-5, 1.0, 4e6] {
                let x = |k: usize| size * (k as f32 / 8.0 - 1.0);
                let rows: Vec<[f32; PANEL]> = (0..17).map(|k| [x(k); PANEL]).collect();
                let mut lines = vec![Line::ZERO; lines_of_group(format)];
                pack(format, &rows, &mut lines);
                for k in 0..17 {
                    let (integer, scale, offset) = parts(format, &lines, k, 31);
                    let found = integer as f32 * scale + offset;
                    let reach = if format == Format::Int4Offsets && size > 1e6 {
                        // Offsets end at the largest float16.
                        size
                    } else {
                        0.5 * scale + 3e-8 + size * 5e-4
                    };
                    assert!((found - x(k)).abs() <= reach, "{format:?} {size} {k}: {found}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for format in [Format::Int4Offsets, Format::Int8Groups] {
            let mut lines = vec![Line::ZERO; lines_of_group(format)];
            pack(format, &[[0.0; PANEL]; 5], &mut lines);
            for k in 0..GROUP {
                assert_eq!(super::element(format, &lines, k, k), 0.0);
            }
        }
    }
}
