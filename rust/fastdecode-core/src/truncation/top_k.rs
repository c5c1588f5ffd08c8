//! Top-k.

use super::context::DrawContext;
use super::rule::{Effect, Rule};
use super::survivors::Survivors;
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Keeps exactly the `k` likeliest tokens, or all where there are fewer (Fan et al., "Hierarchical
/// neural story generation", 2018). At least 1.
#[derive(Debug)]
pub struct TopK;

impl Rule for TopK {
    type Value = i64;

    const PARAMETER: Parameter = Parameter {
        name: "top_k",
        kind: Kind::Integer,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "at least 1; more than the vocabulary keeps all",
        help: "Keeps exactly the k likeliest tokens, ties at the border to the lower id \
               (transformers keeps every tie).",
    };

    fn check(k: i64) -> Result<()> {
        if k < 1 { Err(Error::TopK(k)) } else { Ok(()) }
    }

    fn effect(_: i64) -> Effect {
        Effect::Changes
    }

    fn apply(k: i64, survivors: &mut Survivors, _: &DrawContext) {
        survivors.keep_first(usize::try_from(k).unwrap_or(usize::MAX));
    }
}
