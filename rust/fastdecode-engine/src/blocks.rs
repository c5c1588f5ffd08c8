//! Rows of activations as the linear kernel reads them: in blocks of up to twelve rows, k-major.
//!
//! Element (row, k) of a block of `height` rows lies at `k * height + row`, so that the inner loop
//! broadcasts from one stream, whatever the width of the layer.

use crate::tile::with_rows;
use fastdecode_simd::{LANES, Lanes, Line};
use std::ops::Range;

/// Most rows in a block.
pub const BLOCK_ROWS: usize = 12;

/// How rows are cut into blocks, as evenly as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    rows: usize,
    count: usize,
}

impl Blocks {
    /// For `rows` rows.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        Self { rows, count: rows.div_ceil(BLOCK_ROWS) }
    }

    /// Rows in all.
    #[must_use]
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Blocks.
    #[must_use]
    pub fn count(self) -> usize {
        self.count
    }

    /// The rows of a block.
    #[inline(always)]
    #[must_use]
    pub fn range(self, block: usize) -> Range<usize> {
        let start = |block: usize| block * self.rows / self.count;
        start(block)..start(block + 1)
    }

    /// The block of a row.
    #[inline(always)]
    #[must_use]
    pub fn of(self, row: usize) -> usize {
        ((row + 1) * self.count).div_ceil(self.rows) - 1
    }
}

/// Vector `n` of each of a block's rows into the block: `to[k * height + row] = rows[row][n][k]`,
/// as far as `to` goes.
#[inline(always)]
pub fn interleave<L: Lanes, const N: usize>(l: L, rows: &[[Line; N]], n: usize, to: &mut [f32]) {
    with_rows!(rows.len(), BLOCK_ROWS, interleave_rows::<L; R, N>(l, rows, n, to));
}

/// With a height that the compiler knows: moves of known places, instead of gathers.
#[inline(always)]
fn interleave_rows<L: Lanes, const R: usize, const N: usize>(
    _: L,
    rows: &[[Line; N]],
    n: usize,
    to: &mut [f32],
) {
    let Some(rows) = rows.first_chunk::<R>() else { return };
    let to = to.as_chunks_mut::<R>().0;
    // The same loop twice: where its length is known as well a step of 32 rows in int8 takes one to four
    // percent less.
    if let Some(to) = to.first_chunk_mut::<LANES>() {
        for (k, to) in to.iter_mut().enumerate() {
            for r in 0..R {
                to[r] = rows[r][n].0[k];
            }
        }
    } else {
        for (k, to) in to.iter_mut().enumerate() {
            for r in 0..R {
                to[r] = rows[r][n].0[k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_ROWS, Blocks};

    #[test]
    fn blocks_cover_the_rows_evenly() {
        for rows in 0..200 {
            let blocks = Blocks::new(rows);
            let mut next = 0;
            for block in 0..blocks.count() {
                let range = blocks.range(block);
                assert_eq!(range.start, next);
                assert!((1..=BLOCK_ROWS).contains(&range.len()));
                assert!(range.len() >= rows / blocks.count());
                assert!(range.clone().all(|row| blocks.of(row) == block));
                next = range.end;
            }
            assert_eq!(next, rows);
        }
    }
}
