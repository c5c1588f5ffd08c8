//! The layout of a model's KV cache.

use fastdecode_simd::{LANES, Line};

/// Positions of a chunk: the lanes of a vector.
pub const POSITIONS: usize = LANES;

/// The sizes of a model's KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Layers of the model.
    pub layers: usize,
    /// Heads that have keys and values.
    pub heads: usize,
    /// Width of a head.
    pub width: usize,
    /// Lines of a head's values at one position.
    pub across: usize,
}

impl Shape {
    /// The cache of a model with these layers, and in each of them these heads of this width.
    pub const fn new(layers: usize, heads: usize, width: usize) -> Self {
        Self { layers, heads, width, across: width.div_ceil(LANES) }
    }

    /// Lines of one head in a chunk: its keys, a line for each dimension with the positions as lanes;
    /// then its values, position by position.
    #[inline(always)]
    pub fn head_lines(self) -> usize {
        self.width + POSITIONS * self.across
    }

    /// The first line of one head of one layer in a chunk.
    #[inline(always)]
    pub fn head_start(self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * self.head_lines()
    }

    /// The lines of a chunk that one layer has written to after `filled` positions: first lines and
    /// their numbers.
    pub fn written(self, layer: usize, filled: usize) -> impl Iterator<Item = (usize, usize)> {
        let count = self.width + filled * self.across;
        (0..self.heads).map(move |head| (self.head_start(layer, head), count))
    }

    /// Lines of a chunk.
    pub fn chunk_lines(self) -> usize {
        self.layers * self.heads * self.head_lines()
    }

    /// Bytes of one position.
    pub fn bytes_per_token(self) -> usize {
        self.chunk_lines() * size_of::<Line>() / POSITIONS
    }
}
