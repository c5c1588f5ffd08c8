//! How keys and values lie in a chunk.

use fastdecode_simd::{LANES, Line};

/// Positions of a chunk: the lanes of a vector.
pub const POSITIONS: usize = LANES;

/// The sizes of a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Layers that have a part of each chunk.
    pub layers: usize,
    /// Heads that have keys and values.
    pub heads: usize,
    /// Width of a head.
    pub width: usize,
}

impl Shape {
    /// The cache of a model with these layers, and in each of them these heads of this width.
    pub const fn new(layers: usize, heads: usize, width: usize) -> Self {
        Self { layers, heads, width }
    }

    /// Lines of one head in a chunk: its keys, a line for each dimension with the positions as lanes; then its
    /// values, see `cache::values`.
    #[inline(always)]
    fn head_lines(self) -> usize {
        2 * self.width
    }

    /// The first line of one head of one layer in a chunk.
    #[inline(always)]
    fn head_start(self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * self.head_lines()
    }

    /// Where one head of one layer lies in a chunk.
    #[inline(always)]
    pub fn head(self, layer: usize, head: usize) -> HeadPlace {
        let start = self.head_start(layer, head);
        HeadPlace { start, width: self.width }
    }

    /// The lines of a chunk that one layer has written to after `filled` positions: first lines and
    /// their numbers.
    pub fn written(self, layer: usize, filled: usize) -> impl Iterator<Item = (usize, usize)> {
        let (whole, rest) = (self.width / LANES, self.width % LANES);
        let count = self.width + if rest == 0 { filled * whole } else { self.width };
        (0..self.heads).map(move |head| (self.head_start(layer, head), count))
    }

    /// Lines of a chunk.
    pub fn chunk_lines(self) -> usize {
        self.layers * self.heads * self.head_lines()
    }

    /// Bytes of a chunk.
    pub fn chunk_bytes(self) -> usize {
        self.chunk_lines() * size_of::<Line>()
    }

    /// Bytes of one position.
    pub fn bytes_per_token(self) -> usize {
        self.chunk_bytes() / POSITIONS
    }
}

/// Where the keys and values of one head lie in a chunk.
#[derive(Debug, Clone, Copy)]
pub struct HeadPlace {
    /// The first of its lines.
    pub start: usize,
    /// Lines of its keys, which come first, and of its values.
    pub width: usize,
}
