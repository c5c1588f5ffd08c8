//! How keys and values lie in a chunk.

use super::format::CacheFormat;
use super::{halves, integers};
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
    /// How keys and values are stored.
    pub format: CacheFormat,
}

impl Shape {
    /// The float32 cache of a model with these layers, and in each of them these heads of this width.
    pub const fn new(layers: usize, heads: usize, width: usize) -> Self {
        Self { layers, heads, width, format: CacheFormat::Float32 }
    }

    /// The same with keys and values in another format.
    pub const fn with_format(self, format: CacheFormat) -> Self {
        Self { format, ..self }
    }

    /// Lines of the keys of one head in a chunk. In float32 there is one for each dimension, with the positions
    /// as lanes; see `cache::halves` and `cache::integers` for the other formats.
    #[inline(always)]
    fn key_lines(self) -> usize {
        match self.format {
            CacheFormat::Float32 => self.width,
            CacheFormat::BFloat16 => halves::key_lines(self.width),
            CacheFormat::Int8 => integers::key_lines(self.width),
        }
    }

    /// Lines of the values of one head in a chunk; see `cache::values` for float32.
    #[inline(always)]
    fn value_lines(self) -> usize {
        match self.format {
            CacheFormat::Float32 => self.width,
            CacheFormat::BFloat16 => halves::value_lines(self.width),
            CacheFormat::Int8 => integers::value_lines(self.width),
        }
    }

    /// Lines of one head in a chunk: its keys, then its values.
    #[inline(always)]
    fn head_lines(self) -> usize {
        self.key_lines() + self.value_lines()
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
        HeadPlace { start, keys: self.key_lines(), values: self.value_lines() }
    }

    /// The lines of a chunk that one layer has written to after `filled` positions: first lines and
    /// their numbers.
    pub fn written(self, layer: usize, filled: usize) -> impl Iterator<Item = (usize, usize)> {
        // Values of other formats share lines with those of other positions.
        let in_order = self.format == CacheFormat::Float32 && self.width.is_multiple_of(LANES);
        let count = if in_order {
            self.key_lines() + filled * (self.width / LANES)
        } else {
            self.head_lines()
        };
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
    /// Lines of its keys, which come first.
    pub keys: usize,
    /// Lines of its values.
    pub values: usize,
}
