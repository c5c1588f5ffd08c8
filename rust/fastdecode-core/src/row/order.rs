//! The total order on tokens: larger logit first, then lower id. Argmax, top-k and every
//! truncation use it, so that ties never depend on lanes, threads or memory order.

use std::cmp::Ordering;

/// A token with its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its logit, not NaN; -0.0 counts as 0.0.
    pub logit: f32,
    /// Its token id.
    pub id: u32,
}

impl Candidate {
    /// A token of a row known to have no NaN.
    #[must_use]
    pub fn new(logit: f32, id: usize) -> Self {
        // Adding zero turns -0.0 into 0.0, which `total_cmp` would otherwise tell apart.
        Self { logit: logit + 0.0, id: id as u32 }
    }

    /// `Less` where `self` comes before `other`.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }

    /// The token with this key.
    #[must_use]
    pub fn from_key(key: u64) -> Self {
        let descending = (key >> 32) as u32;
        let bits = if descending >> 31 == 0 { !descending & 0x7FFF_FFFF } else { descending };
        Self { logit: f32::from_bits(bits), id: key as u32 }
    }

    /// The same order as one integer: the candidate that comes first has the smallest.
    #[must_use]
    pub fn key(&self) -> u64 {
        let bits = self.logit.to_bits();
        // Floats in reverse: negative ones grow with their bits, positive ones fall.
        let descending = if bits >> 31 == 0 { !bits & 0x7FFF_FFFF } else { bits };
        u64::from(descending) << 32 | u64::from(self.id)
    }
}
