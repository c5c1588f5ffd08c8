//! Blocks whose elements are integers times a scale.

use super::dequantise::{LEVELS, fields, fifth_bit, nibbles};
use super::encoding::Encoding;
use half::f16;

/// Elements of a block.
const SIZE: usize = 32;

/// A block of 32 elements, each of which is `scale * value`, or `scale * value + offset`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integers {
    pub values: [i8; SIZE],
    pub scale: f16,
    pub offset: Option<f16>,
}

impl Integers {
    /// Whether the elements are finite.
    pub fn is_finite(&self) -> bool {
        self.scale.is_finite() && self.offset.is_none_or(f16::is_finite)
    }
}

impl Encoding {
    /// Whether the elements of a block are integers times one scale, and the offset that may be added.
    pub(crate) fn has_integers(self) -> bool {
        matches!(self.name(), "Q4_0" | "Q4_1" | "Q5_0" | "Q8_0" | "IQ4_NL")
    }

    /// What the elements of a block are made of, if they are integers times one scale.
    pub(crate) fn integers(self, block: &[u8]) -> Option<Integers> {
        let mut values = [0; SIZE];
        let (scale, offset) = match self.name() {
            "Q4_0" => {
                fields!(block.first_chunk::<18>()? => scale: 2, low: 16);
                nibbles(low, &mut values, |_, q| q.cast_signed() - 8);
                (*scale, None)
            }
            "Q4_1" => {
                fields!(block.first_chunk::<20>()? => scale: 2, least: 2, low: 16);
                nibbles(low, &mut values, |_, q| q.cast_signed());
                (*scale, Some(f16::from_le_bytes(*least)))
            }
            "Q5_0" => {
                fields!(block.first_chunk::<22>()? => scale: 2, high: 4, low: 16);
                let high = u32::from_le_bytes(*high);
                nibbles(low, &mut values, |i, q| fifth_bit(high, i, q).cast_signed() - 16);
                (*scale, None)
            }
            "Q8_0" => {
                fields!(block.first_chunk::<34>()? => scale: 2, bytes: 32);
                values = bytes.map(u8::cast_signed);
                (*scale, None)
            }
            "IQ4_NL" => {
                fields!(block.first_chunk::<18>()? => scale: 2, low: 16);
                nibbles(low, &mut values, |_, q| LEVELS[usize::from(q)]);
                (*scale, None)
            }
            _ => return None,
        };
        Some(Integers { values, scale: f16::from_le_bytes(scale), offset })
    }
}

#[cfg(test)]
mod tests {
    use super::Encoding;

    #[test]
    fn integers_times_scales_are_the_elements() {
        let mut found = 0;
        for encoding in Encoding::all() {
            let size = encoding.block_bytes();
            if !encoding.has_integers() {
                assert!(encoding.integers(&vec![0; size]).is_none());
                continue;
            }
            for seed in 0..200usize {
                let mut block: Vec<u8> =
                    (0..size).map(|i| ((seed * 131 + i * 37 + i * i * seed) >> 1) as u8).collect();
                // Scales and offsets that are finite.
                block[1] &= 0x7B | 0x80;
                if encoding.name() == "Q4_1" {
                    block[3] &= 0x7B | 0x80;
                }
                let integers = encoding.integers(&block).expect("integers");
                assert!(integers.is_finite());
                let mut expected = [0.0; 32];
                encoding.dequantise(&block, &mut expected);
                for (value, expected) in integers.values.iter().zip(expected) {
                    let product = f32::from(*value) * integers.scale.to_f32();
                    let element = match integers.offset {
                        Some(offset) => product + offset.to_f32(),
                        None => product,
                    };
                    assert_eq!(element.to_bits(), expected.to_bits(), "{encoding}");
                }
                found += 1;
            }
        }
        assert_eq!(found, 5 * 200);
    }
}
