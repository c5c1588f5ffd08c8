//! The number formats of weight matrices, and a panel in each of them.
//!
//! In every format sums have a fixed order (see `ops::linear`) or are sums of integers, so every format
//! gives the same bits everywhere.

mod bfloat16;
mod four_bits;
mod groups;

pub use bfloat16::{LEAST as LEAST_OF_BFLOAT16, rounded_bits};
#[cfg(test)]
pub(crate) use groups::parts;
pub(crate) use groups::{Block, LINES_OF_4, LINES_OF_8, lines_of_group, put};

use crate::error::{Error, Result};
use fastdecode_simd::{Line, ROUNDER};
use std::str::FromStr;

/// Vectors in a panel.
pub const ACROSS: usize = 2;
/// Outputs of a panel.
pub const PANEL: usize = ACROSS * fastdecode_simd::LANES;
/// Inputs whose products form one partial sum: those of one chain of multiply-adds, and those that share
/// a scale where activations are integers.
pub const CHAIN: usize = 128;
/// Inputs in one word of integer activations.
pub const QUAD: usize = 4;
/// Inputs in one word of bfloat16.
pub const PAIR: usize = 2;
/// Inputs of a group: weights that share a scale.
pub const GROUP: usize = 32;

/// The number format of a weight matrix in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Single precision.
    #[default]
    Float32,
    /// Rounded to bfloat16, and so are the activations that are multiplied with them, by [`rounded_bits`].
    /// Products are summed in float32.
    BFloat16,
    /// Rounded to bfloat16. Everything is computed in float32, as with float32 weights of the same
    /// values.
    BFloat16Weights,
    /// Integers in -127..=127 with one scale for each output. Activations are quantised during the pass, to
    /// integers in -127..=127 with one scale for each row and each 128 inputs.
    Int8,
    /// Integers in -8..=7 with one float16 scale for each output and 32 inputs. Activations are quantised as
    /// for int8. The head and the token embedding are stored in int8, because errors of the head change the
    /// order of tokens directly, and a tied model has one matrix for both.
    Int4,
    /// Integers in 0..=15 with one float16 scale and one float16 offset for each output and 32 inputs.
    /// Activations are quantised as for int8.
    Int4Offsets,
    /// Integers in -128..=127 with one float16 scale for each output and 32 inputs. Activations are quantised
    /// as for int8.
    Int8Groups,
}

impl Format {
    /// The formats that a model can be converted to by their names.
    pub const ALL: [Self; 5] =
        [Self::Float32, Self::BFloat16, Self::BFloat16Weights, Self::Int8, Self::Int4];
    /// The other formats, in which quantised weights of files are kept.
    pub const OF_FILES: [Self; 2] = [Self::Int4Offsets, Self::Int8Groups];

    /// Its name, such as "float32" or "int8".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::BFloat16 => "bfloat16",
            Self::BFloat16Weights => "bfloat16_weights",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Int4Offsets => "int4_offsets",
            Self::Int8Groups => "int8_groups",
        }
    }

    /// The number of its definition, "int8/1": what is stored and computed in it, to the bit.
    ///
    /// Raise it with every change of a bit, that is, whenever a golden digest changes. Saved runs record
    /// it, so that another result can be put down to another definition.
    #[must_use]
    pub fn definition(self) -> &'static str {
        match self {
            Self::Float32 => "float32/1",
            Self::BFloat16 => "bfloat16/2",
            // What "bfloat16" was at first.
            Self::BFloat16Weights => "bfloat16/1",
            Self::Int8 => "int8/1",
            Self::Int4 => "int4/1",
            Self::Int4Offsets => "int4_offsets/1",
            Self::Int8Groups => "int8_groups/1",
        }
    }

    /// Whether activations are rounded to bfloat16.
    pub(crate) fn rounds(self) -> bool {
        self == Self::BFloat16
    }

    /// Whether activations are quantised.
    pub(crate) fn quantises(self) -> bool {
        self == Self::Int8 || self.has_groups()
    }

    /// Whether 32 inputs of an output share a scale.
    pub(crate) fn has_groups(self) -> bool {
        matches!(self, Self::Int4 | Self::Int4Offsets | Self::Int8Groups)
    }

    /// The format of the head of a model in this format.
    pub(crate) fn of_the_head(self) -> Self {
        if self == Self::Int4 { Self::Int8 } else { self }
    }

    /// Lines of the scales of a panel that are kept apart from it.
    pub(crate) fn scales(self) -> usize {
        if self == Self::Int8 { ACROSS } else { 0 }
    }

    /// Lines of a panel of a matrix with this number of inputs.
    pub(crate) fn panel_lines(self, inputs: usize) -> usize {
        match self {
            Self::Float32 => ACROSS.saturating_mul(inputs),
            // Two lines hold two inputs of the 32 outputs.
            Self::BFloat16 | Self::BFloat16Weights => ACROSS.saturating_mul(inputs.div_ceil(PAIR)),
            // Two lines hold four inputs of the 32 outputs.
            Self::Int8 => ACROSS * inputs.div_ceil(QUAD),
            Self::Int4 | Self::Int4Offsets | Self::Int8Groups => {
                lines_of_group(self).saturating_mul(inputs.div_ceil(GROUP))
            }
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownDtype { value: name.to_owned() })
    }
}

/// The lines of a panel as what [`pack`] takes, in the format that stores nothing else.
pub(super) fn in_place(format: Format, lines: &mut [Line]) -> Option<&mut [[f32; PANEL]]> {
    (format == Format::Float32).then(|| Line::floats_mut(lines).as_chunks_mut().0)
}

/// Packs a panel: `x[k * PANEL + output]` goes to `lines`, the scales of int8 to `scales`.
pub(crate) fn pack(format: Format, x: &[f32], lines: &mut [Line], scales: &mut [Line]) {
    let rows = x.as_chunks::<PANEL>().0;
    match format {
        Format::Float32 => {
            for (lines, row) in lines.chunks_exact_mut(ACROSS).zip(rows) {
                for (line, row) in lines.iter_mut().zip(row.as_chunks().0) {
                    line.0 = *row;
                }
            }
        }
        Format::BFloat16 => bfloat16::pack(rows, lines, rounded_bits),
        Format::BFloat16Weights => bfloat16::pack(rows, lines, bfloat16::nearest_bits),
        Format::Int4 => four_bits::pack(rows, lines),
        Format::Int4Offsets | Format::Int8Groups => groups::pack(format, rows, lines),
        Format::Int8 => {
            let mut largest = [0.0f32; PANEL];
            for row in rows {
                for (largest, x) in largest.iter_mut().zip(row) {
                    *largest = largest.max(x.abs());
                }
            }
            let inverse = largest.map(|largest| scale_of(largest).1);
            for (line, largest) in scales.iter_mut().zip(largest.as_chunks().0) {
                line.0 = largest.map(|largest| scale_of(largest).0);
            }
            for (lines, rows) in lines.chunks_exact_mut(ACROSS).zip(rows.chunks(QUAD)) {
                let mut words = [0; PANEL];
                for (row, shift) in rows.iter().zip((0..).step_by(8)) {
                    for ((word, x), inverse) in words.iter_mut().zip(row).zip(inverse) {
                        // Round to nearest, ties to even: the function of that name is a call where the
                        // compiler may not assume SSE4.
                        let whole = (x * inverse + ROUNDER).to_bits();
                        *word |= ((whole & 0xFF) ^ ZERO as u32) << shift;
                    }
                }
                for (line, words) in lines.iter_mut().zip(words.as_chunks().0) {
                    *line.words_mut() = words.map(u32::to_le);
                }
            }
        }
    }
}

/// The byte that stands for zero in int8 weights.
pub const ZERO: i32 = 128;
/// The four bits that stand for zero in int4 weights.
pub const ZERO_OF_4: i32 = 8;
/// The largest absolute value of an integer.
const MOST: f32 = 127.0;
/// Values that are all below this count as zeros: 127 / x must be finite.
const LEAST: f32 = 1e-30;

/// The scale of values whose largest absolute value is `largest`, and its inverse. The scale is NaN where
/// they are not finite, and so is every result then.
#[inline(always)]
pub fn scale_of(largest: f32) -> (f32, f32) {
    if largest < LEAST {
        (0.0, 0.0)
    } else if largest < f32::INFINITY {
        (largest / MOST, MOST / largest)
    } else {
        (f32::NAN, 0.0)
    }
}

/// One element of a packed panel, widened.
pub(crate) fn element(
    format: Format,
    lines: &[Line],
    scales: &[Line],
    k: usize,
    output: usize,
) -> f32 {
    let (vector, lane) = (output / 16, output % 16);
    match format {
        Format::Float32 => lines[k * ACROSS + vector].0[lane],
        Format::BFloat16 | Format::BFloat16Weights => bfloat16::element(lines, k, output),
        Format::Int8 => {
            let byte = lines[k / QUAD * ACROSS + vector].bytes()[lane * QUAD + k % QUAD];
            (i32::from(byte) - ZERO) as f32 * scales[vector].0[lane]
        }
        Format::Int4 | Format::Int4Offsets | Format::Int8Groups => {
            groups::element(format, lines, k, output)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, PANEL, element, pack};
    use fastdecode_simd::Line;

    #[test]
    fn names_are_read_back() {
        for format in Format::OF_FILES {
            assert!(format.definition().starts_with(&format!("{}/", format.name())));
            assert!(format.name().parse::<Format>().is_err());
        }
        for format in Format::ALL {
            assert_eq!(format.name().parse::<Format>().unwrap(), format);
            let (name, number) = format.definition().split_once('/').unwrap();
            assert!(format.name().starts_with(name) && number.parse::<u32>().is_ok());
        }
        let message = "float8".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            message,
            "dtype=\"float8\"; give \"float32\", \"bfloat16\", \"bfloat16_weights\", \"int8\" or \"int4\", or \
             for a GGUF file \"gguf\""
        );
    }

    #[test]
    fn elements_are_read_back_within_their_rounding() {
        for inputs in [1, 3, 4, 5, 130] {
            let x: Vec<f32> = (0..inputs * PANEL)
                .map(|i| if i % PANEL == 7 { 0.0 } else { ((i * 7919) % 1013) as f32 - 506.0 })
                .collect();
            for format in Format::ALL.into_iter().chain(Format::OF_FILES) {
                let mut lines = vec![Line::ZERO; format.panel_lines(inputs)];
                let mut scales = [Line::ZERO; 2];
                pack(format, &x, &mut lines, &mut scales);
                for (i, x) in x.iter().enumerate() {
                    let found = element(format, &lines, &scales, i / PANEL, i % PANEL);
                    let most = match format {
                        Format::Float32 => 0.0,
                        Format::BFloat16 | Format::BFloat16Weights => x.abs() / 256.0,
                        Format::Int8 => 506.0 / 127.0 / 2.0 * 1.0001,
                        // Between two steps, or beyond the last one.
                        Format::Int4 => 506.0 / 7.0,
                        // Steps are 506 * 2 / 15 and 506 / 127, before they are rounded to float16.
                        Format::Int4Offsets => 506.0 / 15.0 * 1.01,
                        Format::Int8Groups => 506.0 / 127.0 / 2.0 * 1.2,
                    };
                    assert!((found - x).abs() <= most, "{format:?} {i}: {found} {x}");
                }
            }
        }
    }
}
