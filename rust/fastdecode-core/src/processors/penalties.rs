//! Penalties on the tokens that occur: repetition, frequency, presence. All are in single
//! precision, as the logits are.
//!
//! The repetition penalty looks at the prompt and the generated tokens. Whether the other two count
//! the prompt is a parameter of its own, `penalties_count_prompt`.

use super::ProcessorParams;
use super::history::Count;
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

    fn new(&given: &f64, _: &ProcessorParams) -> Result<Option<Self>> {
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
/// counted over the prompt and the generated tokens, or over the generated tokens alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FrequencyPenalty {
    penalty: f32,
    counted: Counted,
}

impl Processor for FrequencyPenalty {
    type Given = f64;

    const PARAMETER: Parameter = Parameter {
        name: "frequency_penalty",
        kind: Kind::Number,
        default: Value::Number(0.0),
        off: Value::Number(0.0),
        range: "a finite float32; above 0 discourages repeats",
        help: "Subtracted from a token's logit for each time that it occurred (OpenAI's formula, \
               over prompt and text; see `penalties_count_prompt`).",
    };

    fn new(&given: &f64, all: &ProcessorParams) -> Result<Option<Self>> {
        let penalty = subtracted("frequency_penalty", given)?;
        Ok(penalty.map(|penalty| Self { penalty, counted: Counted::of(all) }))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn needs_prompt(&self) -> bool {
        self.counted == Counted::Generated
    }

    fn bans(&self) -> bool {
        false
    }

    fn changes(&self) -> bool {
        true
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        let Self { penalty, counted } = *self;
        past.for_each_count(|token, count| {
            let count = counted.among(count);
            if count > 0 {
                change(row, token, |logit| logit - count as f32 * penalty);
            }
        });
    }
}

/// Subtracts once from the logit of each token in the history: OpenAI's formula, over the prompt and
/// the generated tokens, or over the generated tokens alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PresencePenalty {
    penalty: f32,
    counted: Counted,
}

impl Processor for PresencePenalty {
    type Given = f64;

    const PARAMETER: Parameter = Parameter {
        name: "presence_penalty",
        kind: Kind::Number,
        default: Value::Number(0.0),
        off: Value::Number(0.0),
        range: "a finite float32; above 0 discourages repeats",
        help: "Subtracted once from a token's logit if it occurred (OpenAI's formula, over prompt \
               and text; see `penalties_count_prompt`).",
    };

    fn new(&given: &f64, all: &ProcessorParams) -> Result<Option<Self>> {
        let penalty = subtracted("presence_penalty", given)?;
        Ok(penalty.map(|penalty| Self { penalty, counted: Counted::of(all) }))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn needs_prompt(&self) -> bool {
        self.counted == Counted::Generated
    }

    fn bans(&self) -> bool {
        false
    }

    fn changes(&self) -> bool {
        true
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        let Self { penalty, counted } = *self;
        past.for_each_count(|token, count| {
            if counted.among(count) > 0 {
                change(row, token, |logit| logit - penalty);
            }
        });
    }
}

/// The parameter that says which tokens the frequency and presence penalties count. It changes no
/// row by itself, so there is no processor of this type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PenaltiesCountPrompt {}

impl Processor for PenaltiesCountPrompt {
    type Given = bool;

    const PARAMETER: Parameter = Parameter {
        name: "penalties_count_prompt",
        kind: Kind::Flag,
        default: Value::Flag(true),
        off: Value::Flag(true),
        range: "True or False",
        help: "Whether `frequency_penalty` and `presence_penalty` count the prompt's tokens. False \
               counts the generated tokens alone, as OpenAI's API and vLLM do. \
               `repetition_penalty` always looks at both.",
    };

    fn new(_: &bool, _: &ProcessorParams) -> Result<Option<Self>> {
        Ok(None)
    }

    fn needs_history(&self) -> bool {
        match *self {}
    }

    fn bans(&self) -> bool {
        match *self {}
    }

    fn changes(&self) -> bool {
        match *self {}
    }

    fn apply(&self, _: &mut [f32], _: &mut Past) {
        match *self {}
    }
}

/// The tokens of a history that a penalty counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    All,
    Generated,
}

impl Counted {
    fn of(all: &ProcessorParams) -> Self {
        if all.penalties_count_prompt { Self::All } else { Self::Generated }
    }

    fn among(self, count: Count) -> u32 {
        match self {
            Self::All => count.all,
            Self::Generated => count.generated,
        }
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
