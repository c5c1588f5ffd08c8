//! Memory that [`Survivors`](super::Survivors) reuses from row to row.

use super::{Listed, nucleus};
use crate::law::groups::Groups;
use crate::row::order::Candidate;
use crate::row::scan::Tops;

/// The memory of one thread.
#[derive(Debug, Default)]
pub(crate) struct SurvivorWorkspace {
    /// The maxima of the row, from its first pass.
    pub tops: Tops,
    /// The groups of the row, where the first pass weighed it.
    pub groups: Groups,
    pub folded: Tops,
    pub keys: Vec<u64>,
    /// The weight of each block of the law; empty where they have not been summed.
    pub sums: Vec<u64>,
    pub nucleus: nucleus::Workspace,
    pub candidates: Vec<Candidate>,
    pub weights: Vec<u64>,
    pub list: Vec<Listed>,
    pub distant: Vec<(u32, u64)>,
    pub shuffled: Vec<(u32, u64)>,
}
