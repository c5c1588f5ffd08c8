//! How many new chunks some passes need at a time.

use super::layout::Kind;
use super::shape::POSITIONS;
use std::ops::Range;

/// Counts the new chunks of one kind of layers that all sequences together hold during each pass.
pub(super) struct Demand {
    /// Positions of a pass.
    pass: usize,
    /// Positions that the present pass has so far.
    filled: usize,
    /// Chunks held during the present pass by sequences that have no part in it.
    settled: usize,
    /// Chunks held during the present pass by those that do, and after it.
    during: usize,
    after: usize,
    most: usize,
}

impl Demand {
    /// Of passes of `pass` positions.
    pub fn new(pass: usize) -> Self {
        Self { pass, filled: 0, settled: 0, during: 0, after: 0, most: 0 }
    }

    /// Adds the new positions of another sequence, which has the chunks `held`. Returns the number of chunks
    /// that it holds at most, old and new.
    pub fn add(&mut self, kind: &Kind, held: Range<usize>, positions: Range<usize>) -> usize {
        let Range { mut start, end } = positions;
        let (mut settled, mut most) = (0, held.len());
        while start < end {
            if self.filled == self.pass {
                self.settle();
            }
            let stop = end.min(start + self.pass - self.filled);
            let (first, chunks) = (kind.first_kept(start), stop.div_ceil(POSITIONS));
            most = most.max(chunks.saturating_sub(held.start.max(first)));
            self.settled -= settled;
            self.during += chunks.saturating_sub(held.end.max(first));
            settled = chunks.saturating_sub(held.end.max(kind.first_kept(stop)));
            self.after += settled;
            self.filled += stop - start;
            start = stop;
        }
        most
    }

    /// The most chunks of all passes.
    pub fn most(mut self) -> usize {
        self.settle();
        self.most
    }

    /// Ends a pass.
    fn settle(&mut self) {
        self.most = self.most.max(self.settled + self.during);
        self.settled += self.after;
        (self.filled, self.during, self.after) = (0, 0, 0);
    }
}
