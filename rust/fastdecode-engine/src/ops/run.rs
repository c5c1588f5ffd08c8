//! What every operation of a pass needs.

use super::quantise::Quantised;
use crate::weights::Weights;
use fastdecode_simd::{Level, Session};

/// Where a pass runs, and with which weights.
pub(crate) struct Run<'a> {
    pub level: Level,
    pub session: Session<'a>,
    pub weights: &'a Weights,
    /// Memory for the quantised inputs of linear layers.
    pub quantised: &'a mut Quantised,
}
