//! The trait of logits processors, and how they change a logit.

use super::ProcessorParams;
use super::past::Past;
use crate::error::{Error, Result};
use crate::parameter::{Parameter, Setting};

/// A logits processor whose parameter has been checked.
pub(super) trait Processor: Sized {
    /// The type of its parameter.
    type Given: Setting;

    /// Its row in the table of parameters.
    const PARAMETER: Parameter;

    /// Whether it is applied after processors of the caller, so that these cannot undo it. Such a
    /// processor is one of the last in the order and does not look at the history.
    const RESTRICTS: bool = false;

    /// Checks the parameter, `given`; None where it changes no row. `all` has the parameters of the
    /// other processors, for those that depend on two.
    ///
    /// # Errors
    /// If the parameter is out of its range.
    fn new(given: &Self::Given, all: &ProcessorParams) -> Result<Option<Self>>;

    /// Whether the history, or its length, can make a difference.
    fn needs_history(&self) -> bool;

    /// Whether it depends on which tokens of the history are the prompt's, so that a caller has to
    /// say.
    fn needs_prompt(&self) -> bool {
        false
    }

    /// Whether it can make a token impossible.
    fn bans(&self) -> bool;

    /// Whether it can change the logit of a token that stays possible.
    fn changes(&self) -> bool;

    /// Acts on a row whose vocabulary has been checked.
    fn apply(&self, row: &mut [f32], past: &mut Past);

    /// Checks what is known before the first row.
    ///
    /// # Errors
    /// If the processor cannot work.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The largest token id in the parameter, with the name of the argument that has it.
    fn largest_id(_given: &Self::Given) -> Option<(&'static str, u32)> {
        None
    }
}

/// A count, which must not be negative.
pub(super) fn at_least_zero(value: i64, refusal: fn(i64) -> Error) -> Result<usize> {
    if value < 0 {
        return Err(refusal(value));
    }
    // Where it does not fit, no sequence is that long either.
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

/// Makes a token impossible.
pub(super) fn ban(row: &mut [f32], token: u32) {
    row[token as usize] = f32::NEG_INFINITY;
}

/// Changes a finite logit, to a finite one.
pub(super) fn change(row: &mut [f32], token: u32, change: impl FnOnce(f32) -> f32) {
    let logit = &mut row[token as usize];
    if logit.is_finite() {
        *logit = change(*logit).clamp(f32::MIN, f32::MAX);
    }
}
