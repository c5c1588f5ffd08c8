//! Which layers of a model keep which positions.

use super::format::CacheFormat;
use super::shape::{POSITIONS, Shape};
use super::slab::Slabs;
use std::ops::Range;

/// Positions that layers with a window keep beyond those that the next token attends to, so that this many
/// tokens can be cut off a sequence.
pub const SLACK: usize = 32;

/// The KV cache of a model: its layers in kinds, each of which has a strip of chunks in every sequence.
pub(crate) struct Layout {
    kinds: Vec<Kind>,
    layers: Vec<Place>,
    format: CacheFormat,
}

/// The layers that keep the same positions: all of them, or those of a window.
pub(crate) struct Kind {
    /// The sizes of its chunks.
    pub shape: Shape,
    /// The most positions that a token attends to, its own among them.
    pub window: Option<usize>,
    pub slabs: Slabs,
}

/// Where a layer lies: the index of its kind, and its own index among the layers of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub kind: usize,
    pub layer: usize,
}

impl Layout {
    /// The cache of a model of this shape whose layers have these windows.
    ///
    /// # Panics
    /// If that is another number of layers.
    pub fn new(shape: Shape, windows: &[Option<usize>]) -> Self {
        assert_eq!(windows.len(), shape.layers);
        let mut counts: Vec<(Option<usize>, usize)> = Vec::new();
        let mut layers = Vec::new();
        for &window in windows {
            let kind = counts.iter().position(|&(other, _)| other == window);
            let kind = kind.unwrap_or_else(|| {
                counts.push((window, 0));
                counts.len() - 1
            });
            let count = &mut counts[kind].1;
            layers.push(Place { kind, layer: *count });
            *count += 1;
        }
        let kinds = counts.into_iter().map(|(window, layers)| {
            let shape = Shape { layers, ..shape };
            Kind { shape, window, slabs: Slabs::new(shape.chunk_lines()) }
        });
        Self { kinds: kinds.collect(), layers, format: shape.format }
    }

    /// The format of keys and values.
    pub fn format(&self) -> CacheFormat {
        self.format
    }

    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Where a layer lies.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn place(&self, layer: usize) -> Place {
        self.layers[layer]
    }

    /// Whether the layers of both models keep the same in chunks of the same sizes.
    pub fn is_like(&self, other: &Self) -> bool {
        let kinds = |layout: &Self| -> Vec<_> {
            layout.kinds.iter().map(|kind| (kind.shape, kind.window)).collect()
        };
        std::ptr::eq(self, other) || (self.layers == other.layers && kinds(self) == kinds(other))
    }

    /// Bytes of one position in all layers.
    pub fn bytes_per_token(&self) -> usize {
        self.kinds.iter().map(|kind| kind.shape.bytes_per_token()).sum()
    }

    /// Bytes of the chunks that sequences hold.
    pub fn bytes_in_use(&self) -> usize {
        let bytes = |kind: &Kind| kind.slabs.in_use() * kind.shape.chunk_bytes();
        self.kinds.iter().map(bytes).sum()
    }
}

impl Kind {
    /// The chunks that a token at this position attends to.
    pub fn attended(&self, position: usize) -> Range<usize> {
        self.last(position + 1, 0)..position / POSITIONS + 1
    }

    /// The first chunk that is kept of a sequence of `length` tokens.
    pub fn first_kept(&self, length: usize) -> usize {
        self.last(length + 1, SLACK)
    }

    /// The least length, beside zero, that a sequence can be cut back to whose chunks begin with `first`.
    pub fn shortest(&self, first: usize) -> usize {
        match self.window {
            Some(window) if first > 0 => (first * POSITIONS + window).saturating_sub(1),
            _ => 0,
        }
    }

    /// The first chunk of the last positions before `end`: those of the window, and `more`.
    fn last(&self, end: usize, more: usize) -> usize {
        let window = self.window.unwrap_or(usize::MAX);
        end.saturating_sub(window.saturating_add(more)) / POSITIONS
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Layout, Place, SLACK};
    use crate::cache::{CacheFormat, Shape};

    #[test]
    fn layers_of_a_window_are_of_a_kind() {
        let windows = [None, Some(9), Some(9), None, Some(20)];
        let layout = Layout::new(Shape::new(5, 2, 16), &windows);
        let place = |kind, layer| Place { kind, layer };
        assert_eq!(
            (0..5).map(|layer| layout.place(layer)).collect::<Vec<_>>(),
            [place(0, 0), place(1, 0), place(1, 1), place(0, 1), place(2, 0)]
        );
        let layers: Vec<_> = layout.kinds().iter().map(|kind| kind.shape.layers).collect();
        assert_eq!(layers, [2, 2, 1]);
        assert_eq!(layout.bytes_per_token(), 2 * 5 * 2 * 16 * 4);
        for (format, bytes) in [(CacheFormat::BFloat16, 2 * 16), (CacheFormat::Int8, 16 + 4)] {
            let smaller = Layout::new(Shape::new(5, 2, 16).with_format(format), &windows);
            assert_eq!(smaller.bytes_per_token(), 2 * 5 * 2 * bytes);
            assert!(!layout.is_like(&smaller));
        }
        assert!(!layout.is_like(&Layout::new(Shape::new(5, 2, 16), &[None; 5])));
        assert!(layout.is_like(&Layout::new(Shape::new(5, 2, 16), &windows)));
    }

    #[test]
    fn what_is_kept_reaches_as_far_as_every_length_that_is_allowed() {
        for window in [1, 2, 15, 16, 17, 40, usize::MAX] {
            let layout = Layout::new(Shape::new(1, 1, 16), &[Some(window)]);
            let [kind] = layout.kinds() else { unreachable!() };
            for length in 0..200 {
                let first = kind.first_kept(length);
                let shortest = kind.shortest(first);
                assert!(shortest <= length.saturating_sub(SLACK));
                let reaches = |kind: &Kind, length| first <= kind.attended(length).start;
                assert!((shortest..=length).all(|length| reaches(kind, length)));
                assert!(shortest == 0 || !reaches(kind, shortest - 1));
            }
        }
        let full = Layout::new(Shape::new(1, 1, 16), &[None]);
        assert_eq!(full.kinds()[0].attended(40), 0..3);
        assert_eq!(full.kinds()[0].first_kept(usize::MAX - 1), 0);
    }
}
