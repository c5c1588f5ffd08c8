//! Packed weights in memory, and where each tensor lies among them.

use super::format::Format;
use super::places::Contents;
use crate::arena::Arena;
use fastdecode_simd::{LANES, Line};
use std::ops::Range;

/// All weights of a model: one arena of lines.
pub(crate) struct Weights {
    arena: Arena,
    contents: Contents,
    widest: Widest,
}

/// The most inputs of a matrix whose activations are converted; 0 where none are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Widest {
    /// Of those that are quantised.
    pub quantised: usize,
    /// Of those that are rounded to bfloat16.
    pub rounded: usize,
}

impl Widest {
    /// The larger of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            quantised: self.quantised.max(other.quantised),
            rounded: self.rounded.max(other.rounded),
        }
    }
}

/// Where a matrix lies. Its format is its own: the matrices of a model may differ.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub format: Format,
    pub weights: Range<usize>,
    /// Empty for formats without scales.
    pub scales: Range<usize>,
    pub inputs: usize,
    pub outputs: usize,
}

/// Where a vector lies, with zeros after it.
#[derive(Debug, Clone)]
pub(crate) struct Vector(pub(super) Range<usize>);

/// Where a table of float32 rows lies, each padded with zeros to whole lines.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(super) lines: Range<usize>,
    pub(super) width: usize,
}

/// A matrix in panels, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatrixView<'a> {
    pub format: Format,
    /// `outputs` rounded up to panels, of `Format::panel_lines` lines each.
    pub weights: &'a [Line],
    /// For int8, a scale for each output of the panels.
    pub scales: &'a [Line],
    pub inputs: usize,
    pub outputs: usize,
}

impl Weights {
    pub(super) fn new(arena: Arena, contents: Contents, widest: Widest) -> Self {
        Self { arena, contents, widest }
    }

    /// What they consist of.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// No weights.
    #[cfg(test)]
    pub fn empty() -> Self {
        let arena = Arena::new(1).expect("a line of memory");
        Self { arena, contents: Contents::default(), widest: Widest::default() }
    }

    /// The widest activations that are converted.
    pub fn widest(&self) -> Widest {
        self.widest
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// Everything, in the order in which a pass reads it.
    pub fn lines(&self) -> &[Line] {
        self.arena.lines()
    }

    #[inline(always)]
    pub fn matrix(&self, place: &Matrix) -> MatrixView<'_> {
        let lines = self.lines();
        MatrixView {
            format: place.format,
            weights: &lines[place.weights.clone()],
            scales: &lines[place.scales.clone()],
            inputs: place.inputs,
            outputs: place.outputs,
        }
    }

    #[inline(always)]
    pub fn vector(&self, place: &Vector) -> &[Line] {
        &self.lines()[place.0.clone()]
    }

    /// One row of a table.
    #[inline(always)]
    pub fn row(&self, table: &Table, row: usize) -> &[Line] {
        let count = table.width.div_ceil(LANES);
        &self.lines()[table.lines.clone()][row * count..][..count]
    }
}
