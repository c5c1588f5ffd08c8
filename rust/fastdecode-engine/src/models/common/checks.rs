//! Checks of configurations that the architectures share.

use crate::error::{Error, Result};
use crate::ops::Activation;
use std::borrow::Cow;

/// Larger sizes are mistakes. A product of two of these fits in an integer easily, and so does a token id.
pub(crate) const LARGEST: usize = 1 << 24;
pub(crate) const MOST_LAYERS: usize = 1 << 12;
/// Why a configuration is refused that other engines can run.
pub(crate) const OTHER: &str =
    "the native engine does not compute this; use engine=\"transformers\"";

/// Refuses a field of a configuration.
#[expect(clippy::needless_pass_by_value, reason = "numbers, names and texts are passed alike")]
pub(crate) fn refuse<T>(
    name: &'static str,
    value: impl ToString,
    need: impl Into<Cow<'static, str>>,
) -> Result<T> {
    Err(Error::Config { name, value: value.to_string(), need: need.into() })
}

/// Checks that each size lies in 1..=most.
pub(crate) fn sizes(sizes: &[(&'static str, usize, usize)]) -> Result<()> {
    for &(name, value, most) in sizes {
        if value == 0 || value > most {
            return refuse(name, value, "out of range");
        }
    }
    Ok(())
}

/// Checks that a number divides another without remainder, as the heads of a layer divide its width.
pub(crate) fn divides(name: &'static str, value: usize, whole: (&str, usize)) -> Result<()> {
    let (whole, of) = whole;
    if of.is_multiple_of(value) {
        return Ok(());
    }
    refuse(name, value, format!("it must divide {whole}={of}"))
}

/// Checks what a norm adds to a variance.
pub(crate) fn epsilon(name: &'static str, value: f32) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    refuse(name, value, "it must be positive")
}

/// The activation of a name.
pub(crate) fn activation(name: &'static str, value: &str) -> Result<Activation> {
    Activation::named(value).map_or_else(|| refuse(name, value, OTHER), Ok)
}

/// Refuses what a switch turns on, or off.
pub(crate) fn only(name: &'static str, value: bool, plain: bool) -> Result<()> {
    if value == plain { Ok(()) } else { refuse(name, value, OTHER) }
}

/// Checks the number of positions that a row attends to.
pub(crate) fn window(name: &'static str, value: Option<usize>) -> Result<()> {
    value.map_or(Ok(()), |value| sizes(&[(name, value, LARGEST)]))
}

// Defaults of configurations.
pub(crate) fn silu() -> String {
    "silu".into()
}
pub(crate) fn yes() -> bool {
    true
}
