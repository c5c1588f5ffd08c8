//! The tokens that stay when all others are banned.

use crate::error::{Error, Result};

/// Ids, sorted, each once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Allowed(Vec<u32>);

impl Allowed {
    pub(super) fn new(ids: &[u32]) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::NoneAllowed);
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        Ok(Self(ids))
    }

    /// Bans the stretches between.
    pub(super) fn apply(&self, row: &mut [f32]) {
        let mut start = 0;
        for &id in &self.0 {
            let id = id as usize;
            row[start..id].fill(f32::NEG_INFINITY);
            start = id + 1;
        }
        row[start..].fill(f32::NEG_INFINITY);
    }
}
