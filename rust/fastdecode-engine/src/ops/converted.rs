//! The activations that enter a linear layer, converted to what its weights are multiplied with.

use super::bfloat16::Rounded;
use super::quantise::Quantised;
use super::row_blocks::RowBlocks;
use crate::error::Result;
use crate::weights::{Format, Widest};
use fastdecode_simd::{Level, Session};

/// Memory for converted activations, kept from one layer to the next.
#[derive(Default)]
pub struct Converted {
    pub quantised: Quantised,
    pub rounded: Rounded,
}

impl Converted {
    /// Room for this number of rows.
    ///
    /// # Errors
    /// If the system refuses memory.
    pub fn reserve(&mut self, level: Level, rows: usize, widest: Widest) -> Result<()> {
        self.quantised.reserve(rows, widest.quantised)?;
        self.rounded.reserve(level, rows, widest.rounded)
    }

    /// Converts the row blocks `x`, `inputs` wide, for weights of a format.
    ///
    /// # Panics
    /// If `x` has another size.
    pub fn fill(
        &mut self,
        format: Format,
        level: Level,
        session: &mut Session<'_>,
        blocks: RowBlocks,
        x: &[f32],
        inputs: usize,
    ) {
        if format.quantises() {
            self.quantised.fill(level, session, blocks, x, inputs, format);
        } else if format.rounds() {
            self.rounded.fill(level, session, blocks, x, inputs);
        }
    }
}
