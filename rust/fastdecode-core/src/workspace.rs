//! Memory that is reused from row to row.

use crate::processors::ProcessorWorkspace;
use crate::truncation::survivors::SurvivorWorkspace;

/// The memory that decoding a row needs; one for each thread. Nothing in it outlives a call: the
/// same row gives the same result with any workspace.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) survivors: SurvivorWorkspace,
    pub(crate) processors: ProcessorWorkspace,
    /// The row after the logits processors.
    pub(crate) processed: Vec<f32>,
}
