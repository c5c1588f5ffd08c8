//! The trait that every rule implements.

use super::context::DrawContext;
use super::survivors::Survivors;
use crate::error::{Error, Result};
use crate::parameter::Parameter;

/// A rule that acts on a row's tokens: a temperature or a truncation.
pub(crate) trait Rule {
    /// The type of its parameter's value.
    type Value: Copy;

    /// Its row in the table of parameters.
    const PARAMETER: Parameter;

    /// What the law depends on besides the row. Beam search supports only rules that need nothing
    /// else.
    const NEED: Need = Need::Row;

    /// Whether the parameter is in its range.
    ///
    /// # Errors
    /// If it is not.
    fn check(value: Self::Value) -> Result<()>;

    /// Its effect on a row, as far as it is known without the row.
    fn effect(value: Self::Value) -> Effect;

    /// Applies the rule; called only where its effect is not [`Effect::Off`].
    fn apply(value: Self::Value, survivors: &mut Survivors, context: &DrawContext);

    /// Whether two keys can give two laws of the same row.
    fn tosses(_value: Self::Value) -> bool {
        false
    }
}

/// A parameter that always has a value, or may have none.
pub(super) trait Given<T> {
    fn get(self) -> Option<T>;
}

impl Given<Self> for f64 {
    fn get(self) -> Option<Self> {
        Some(self)
    }
}

impl<T> Given<T> for Option<T> {
    fn get(self) -> Self {
        self
    }
}

/// What a law depends on besides the row and the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Row,
    /// The key of the draw.
    Key,
    /// What was drawn before in the same sequence.
    State,
}

/// The effect of a rule, as far as the first pass over a row needs to know it: bounds on the mass
/// of the whole row are of use only until something changes that mass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Effect {
    /// Nothing: the rule is off.
    Off,
    /// Divides every logit by this temperature.
    Scales(f64),
    /// Keeps the smallest set that has a share of the mass.
    KeepsMass,
    /// Cuts tokens, or changes the scale depending on the row.
    Changes,
}

/// [`Error::Probability`] for a value that is not between 0 and 1.
pub(super) fn probability(name: &'static str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Error::Probability { name, value }) }
}

/// [`Error::Negative`] for a value that is negative, NaN or infinite.
pub(super) fn not_negative(name: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(Error::Negative { name, value }) }
}
