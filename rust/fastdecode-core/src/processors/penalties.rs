//! Penalties on the tokens that occur: repetition, frequency, presence. All are in single
//! precision, as the logits are.

use super::past::Past;
use super::rule::{Processor, change};
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Divides the positive logits of tokens in the history and multiplies the negative ones, once
/// however often a token occurs (Keskar et al., "CTRL", 2019; as in transformers). Above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RepetitionPenalty(f32);

impl Processor for RepetitionPenalty {
    type Given = f64;

    const PARAMETER: Parameter = Parameter {
        name: "repetition_penalty",
        kind: Kind::Number,
        default: Value::Number(1.0),
        off: Value::Number(1.0),
        range: "a finite float32 above 0; above 1 discourages repeats",
        help: "Divides positive logits of tokens in the prompt or the text so far, and multiplies \
               negative ones (Keskar et al., 2019).",
    };

    fn new(&given: &f64, _: &[u32]) -> Result<Option<Self>> {
        let penalty = given as f32;
        if !(penalty.is_finite() && penalty > 0.0) {
            return Err(Error::RepetitionPenalty(given));
        }
        Ok((penalty != 1.0).then_some(Self(penalty)))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn bans(&self) -> bool {
        false
    }

    fn changes(&self) -> bool {
        true
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        let Self(penalty) = *self;
        past.for_each_count(|token, _| {
            change(row, token, |logit| {
                // Both, without a branch: the signs follow no pattern that could be predicted.
                let (multiplied, divided) = (logit * penalty, logit / penalty);
                std::hint::select_unpredictable(logit < 0.0, multiplied, divided)
            });
        });
    }
}

/// Subtracts from a token's logit for each time that the token is in the history: OpenAI's formula,
/// counted over the prompt and the generated tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FrequencyPenalty(f32);

impl Processor for FrequencyPenalty {
    type Given = f64;

    const PARAMETER: Parameter = Parameter {
        name: "frequency_penalty",
        kind: Kind::Number,
        default: Value::Number(0.0),
        off: Value::Number(0.0),
        range: "a finite float32; above 0 discourages repeats",
        help: "Subtracted from a token's logit for each time that it occurred (OpenAI's formula, \
               over prompt and text).",
    };

    fn new(&given: &f64, _: &[u32]) -> Result<Option<Self>> {
        Ok(subtracted("frequency_penalty", given)?.map(Self))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn bans(&self) -> bool {
        false
    }

    fn changes(&self) -> bool {
        true
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        let Self(penalty) = *self;
        past.for_each_count(|token, count| {
            change(row, token, |logit| logit - count as f32 * penalty);
        });
    }
}

/// Subtracts once from the logit of each token in the history: OpenAI's formula, over the prompt and
/// the generated tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PresencePenalty(f32);

impl Processor for PresencePenalty {
    type Given = f64;

    const PARAMETER: Parameter = Parameter {
        name: "presence_penalty",
        kind: Kind::Number,
        default: Value::Number(0.0),
        off: Value::Number(0.0),
        range: "a finite float32; above 0 discourages repeats",
        help: "Subtracted once from a token's logit if it occurred (OpenAI's formula, over prompt \
               and text).",
    };

    fn new(&given: &f64, _: &[u32]) -> Result<Option<Self>> {
        Ok(subtracted("presence_penalty", given)?.map(Self))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn bans(&self) -> bool {
        false
    }

    fn changes(&self) -> bool {
        true
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        let Self(penalty) = *self;
        past.for_each_count(|token, _| change(row, token, |logit| logit - penalty));
    }
}

/// A penalty that is subtracted; None where it is 0.
fn subtracted(name: &'static str, value: f64) -> Result<Option<f32>> {
    let penalty = value as f32;
    if !penalty.is_finite() {
        return Err(Error::Penalty { name, value });
    }
    Ok((penalty != 0.0).then_some(penalty))
}
