//! How activations lie in memory between operations: in row blocks of up to twelve rows, k-major.
//!
//! Element (row, k) of a row block of `height` rows lies at `k * height + row`, so that the inner loop
//! of a linear layer reads one contiguous run, whatever the layer's width.

use super::tile::with_rows;
use fastdecode_simd::{LANES, Lanes, Line};
use std::ops::Range;

/// The most rows of a row block.
pub const BLOCK_ROWS: usize = 12;

/// The division of rows into row blocks, as even as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowBlocks {
    rows: usize,
    count: usize,
}

impl RowBlocks {
    /// Divides `rows` rows.
    pub fn new(rows: usize) -> Self {
        Self { rows, count: rows.div_ceil(BLOCK_ROWS) }
    }

    /// All rows.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// The number of row blocks.
    pub fn count(self) -> usize {
        self.count
    }

    /// The rows of a row block.
    #[inline(always)]
    pub fn range(self, block: usize) -> Range<usize> {
        let start = |block: usize| block * self.rows / self.count;
        start(block)..start(block + 1)
    }

    /// The row block of a row.
    #[inline(always)]
    pub fn of(self, row: usize) -> usize {
        ((row + 1) * self.count).div_ceil(self.rows) - 1
    }
}

/// Vector `n` of each row of a row block, interleaved: `to[k * height + row] = rows[row][n][k]`, for as
/// many k as `to` holds.
#[inline(always)]
pub fn interleave<L: Lanes, const N: usize>(l: L, rows: &[[Line; N]], n: usize, to: &mut [f32]) {
    with_rows!(rows.len(), BLOCK_ROWS, interleave_rows::<L; R, N>(l, rows, n, to));
}

/// With a height that the compiler knows, so that it moves elements between known places instead of
/// gathering them.
#[inline(always)]
fn interleave_rows<L: Lanes, const R: usize, const N: usize>(
    _: L,
    rows: &[[Line; N]],
    n: usize,
    to: &mut [f32],
) {
    let Some(rows) = rows.first_chunk::<R>() else { return };
    let to = to.as_chunks_mut::<R>().0;
    // The same loop twice: it is faster where its length is known to the compiler, too.
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
    use super::{BLOCK_ROWS, RowBlocks};

    #[test]
    fn blocks_cover_the_rows_evenly() {
        for rows in 0..200 {
            let blocks = RowBlocks::new(rows);
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
