//! A batch of rows as it lies in the caller's memory.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The numbers of a batch, in one of the formats that models put out.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of a single.
    BF16(&'a [bf16]),
}

/// `rows` rows of `vocabulary` logits, each contiguous, `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct Logits<'a> {
    /// From the first element of the first row to the last of the last.
    pub elements: Elements<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Tokens in a row.
    pub vocabulary: usize,
    /// Elements from one row's start to the next's; may be 0 (one row seen many times).
    pub stride: usize,
}

impl Logits<'_> {
    /// A row in single precision: borrowed where it is stored so, else converted, which is exact.
    pub(crate) fn row<'s>(&'s self, index: usize, widened: &'s mut Vec<f32>) -> &'s [f32] {
        let range = index * self.stride..index * self.stride + self.vocabulary;
        match self.elements {
            Elements::F32(all) => return &all[range],
            Elements::F16(all) => {
                widened.resize(self.vocabulary, 0.0);
                all[range].convert_to_f32_slice(widened);
            }
            Elements::BF16(all) => {
                widened.resize(self.vocabulary, 0.0);
                all[range].convert_to_f32_slice(widened);
            }
        }
        widened
    }
}
