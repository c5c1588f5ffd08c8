//! A panel: 32 outputs of a linear layer, the unit of its parallel work.

use super::row_blocks::BLOCK_ROWS;
use super::tile::Prefetch;
use crate::weights::{ACROSS, MatrixView};
use fastdecode_simd::Line;

/// The weights and biases of a linear layer, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub matrix: MatrixView<'a>,
    /// A bias for each output of the matrix's panels.
    pub bias: &'a [Line],
}

/// One panel of a linear layer.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub operands: &'a Operands<'a>,
    /// The index of the panel.
    pub index: usize,
    /// Its own lines.
    pub weights: &'a [Line],
}

/// The products of a panel with a row block, before scales and biases.
pub(crate) type Sums = [[Line; ACROSS]; BLOCK_ROWS];

/// Lines between what is read and what is prefetched (8 KiB).
pub(crate) const NEAR: usize = 128;
/// Lines that are prefetched at once.
pub(crate) const PREFETCHED: usize = 2;

/// What row block `i` of `count` prefetches during a stretch of a panel. A single one prefetches the lines
/// a little ahead of those that it reads; several prefetch a share of the next stretch each. In memory a
/// panel is followed by the one that its thread will most likely have next.
#[inline(always)]
pub(crate) fn prefetch_of(now: &[Line], i: usize, count: usize) -> Prefetch {
    if count == 1 {
        return Prefetch::ahead(now, NEAR, PREFETCHED);
    }
    let start = |i: usize| i * now.len().div_ceil(PREFETCHED) / count * PREFETCHED;
    let next = Prefetch::after(now, now.len() + start(i), start(i + 1) - start(i), PREFETCHED);
    if i == 0 { next.with_weights() } else { next }
}
