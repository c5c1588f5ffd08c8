//! How the elements of a tensor are stored: ggml's types.

use super::{dequantise, k_quants};
use std::fmt;

/// How the elements of a tensor are stored: one of ggml's types, by its name there.
///
/// The quantised ones store blocks of 32 or 256 elements of a row, each with scales of its own. What a block
/// means is defined by `gguf.quants.dequantize` of the Python package `gguf`: products and sums in float32,
/// each rounded on its own, in the order written there. llama.cpp's own C code has the same operations, but a
/// compiler may fuse `d * q + m` into one rounding there; so the last bit of an element may differ from
/// llama.cpp's in `Q4_1`, `Q5_1`, `Q2_K`, `Q4_K` and `Q5_K`, and in no other encoding. Which NaN comes of a scale that is
/// NaN or infinite is not defined.
#[derive(Debug, Clone, Copy)]
pub struct Encoding(&'static Entry);

#[derive(Debug)]
struct Entry {
    number: u32,
    name: &'static str,
    /// Elements of a block.
    elements: usize,
    /// Bytes of a block.
    bytes: usize,
    reading: Option<Reading>,
}

/// Widens whole blocks to float32.
type Reading = fn(&[u8], &mut [f32]);

const fn read(
    number: u32,
    name: &'static str,
    elements: usize,
    bytes: usize,
    reading: Reading,
) -> Entry {
    Entry { number, name, elements, bytes, reading: Some(reading) }
}

/// An encoding that is known, so that its size can be checked, and not read.
const fn other(number: u32, name: &'static str, elements: usize, bytes: usize) -> Entry {
    Entry { number, name, elements, bytes, reading: None }
}

/// Numbers that are missing here were given up.
static ENTRIES: &[Entry] = &[
    read(0, "F32", 1, 4, dequantise::f32),
    read(1, "F16", 1, 2, dequantise::f16),
    read(2, "Q4_0", 32, 18, dequantise::q4_0),
    read(3, "Q4_1", 32, 20, dequantise::q4_1),
    read(6, "Q5_0", 32, 22, dequantise::q5_0),
    read(7, "Q5_1", 32, 24, dequantise::q5_1),
    read(8, "Q8_0", 32, 34, dequantise::q8_0),
    other(9, "Q8_1", 32, 40),
    read(10, "Q2_K", 256, 84, k_quants::q2_k),
    read(11, "Q3_K", 256, 110, k_quants::q3_k),
    read(12, "Q4_K", 256, 144, k_quants::q4_k),
    read(13, "Q5_K", 256, 176, k_quants::q5_k),
    read(14, "Q6_K", 256, 210, k_quants::q6_k),
    read(15, "Q8_K", 256, 292, k_quants::q8_k),
    other(16, "IQ2_XXS", 256, 66),
    other(17, "IQ2_XS", 256, 74),
    other(18, "IQ3_XXS", 256, 98),
    other(19, "IQ1_S", 256, 50),
    read(20, "IQ4_NL", 32, 18, dequantise::iq4_nl),
    other(21, "IQ3_S", 256, 110),
    other(22, "IQ2_S", 256, 82),
    other(23, "IQ4_XS", 256, 136),
    other(24, "I8", 1, 1),
    other(25, "I16", 1, 2),
    other(26, "I32", 1, 4),
    other(27, "I64", 1, 8),
    other(28, "F64", 1, 8),
    other(29, "IQ1_M", 256, 56),
    read(30, "BF16", 1, 2, dequantise::bf16),
    other(34, "TQ1_0", 256, 54),
    other(35, "TQ2_0", 256, 66),
    other(39, "MXFP4", 32, 17),
    other(40, "NVFP4", 64, 36),
    other(41, "Q1_0", 128, 18),
];

impl Encoding {
    /// By its number in ggml.
    pub(super) fn of(number: u32) -> Option<Self> {
        ENTRIES.iter().find(|entry| entry.number == number).map(Self)
    }

    /// All that are known, readable or not.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().map(Self)
    }

    /// By its name in ggml, such as `"Q4_K"`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ENTRIES.iter().find(|entry| entry.name == name).map(Self)
    }

    /// The names of those that are read, one after the other.
    #[must_use]
    pub fn readable() -> String {
        let names = ENTRIES.iter().filter(|entry| entry.reading.is_some()).map(|entry| entry.name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// Its name in ggml.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Elements of a block, which lie side by side in a row.
    #[must_use]
    pub fn block_elements(self) -> usize {
        self.0.elements
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.0.bytes
    }

    /// Whether its elements can be read.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.0.reading.is_some()
    }

    /// The elements of whole blocks as float32.
    ///
    /// # Panics
    /// If the encoding is not readable, or `blocks` and `to` are not the same number of whole blocks.
    pub fn dequantise(self, blocks: &[u8], to: &mut [f32]) {
        let count = blocks.len() / self.0.bytes;
        assert_eq!(blocks.len(), count * self.0.bytes, "part of a block");
        assert_eq!(to.len(), count * self.0.elements, "room for other elements than there are");
        let reading = self.0.reading.expect("a readable encoding");
        reading(blocks, to);
    }
}

impl PartialEq for Encoding {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for Encoding {}

impl fmt::Display for Encoding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.0.name)
    }
}
