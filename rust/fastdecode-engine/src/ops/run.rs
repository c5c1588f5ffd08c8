//! What every operation of a pass needs.

use super::converted::Converted;
use crate::weights::Weights;
use fastdecode_simd::{Level, Session};

/// Where a pass runs, and with which weights.
pub(crate) struct Run<'a> {
    pub level: Level,
    pub session: Session<'a>,
    pub weights: &'a Weights,
    /// Memory for the converted inputs of linear layers.
    pub converted: &'a mut Converted,
}
