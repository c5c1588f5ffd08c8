//! The rows of a pass: new tokens of several sequences, one after the other.

/// The new tokens of one sequence in a pass: rows `first..first + count`, at the positions from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The index of the sequence.
    pub sequence: usize,
    pub first: usize,
    pub count: usize,
    pub start: usize,
}

/// The rows of a pass. Each of its segments belongs to another sequence.
#[derive(Default)]
pub(crate) struct PassRows {
    tokens: Vec<u32>,
    /// For each row, the index of its segment.
    owners: Vec<u32>,
    segments: Vec<Segment>,
}

impl PassRows {
    /// Removes all rows.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.owners.clear();
        self.segments.clear();
    }

    /// Adds a row for each of `tokens`, which stand at the positions from `start` in a sequence.
    ///
    /// # Panics
    /// If there is no token, or the sequence does not come after those already added.
    pub fn push(&mut self, sequence: usize, start: usize, tokens: &[u32]) {
        assert!(!tokens.is_empty());
        assert!(self.segments.last().is_none_or(|last| last.sequence < sequence));
        let first = self.tokens.len();
        self.owners.resize(first + tokens.len(), self.segments.len() as u32);
        self.segments.push(Segment { sequence, first, count: tokens.len(), start });
        self.tokens.extend_from_slice(tokens);
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segment of a row.
    #[inline(always)]
    pub fn segment(&self, row: usize) -> &Segment {
        &self.segments[self.owners[row] as usize]
    }

    /// The position of a row in its sequence.
    #[inline(always)]
    pub fn position(&self, row: usize) -> usize {
        let segment = self.segment(row);
        segment.start + row - segment.first
    }
}
