//! A minimum length, and the tokens that end a sequence.

use super::ProcessorParams;
use super::past::Past;
use super::rule::{Processor, at_least_zero, ban};
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Bans the end-of-sequence tokens until this many tokens are generated. 0 is off.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MinNewTokens {
    given: i64,
    least: usize,
    eos: Vec<u32>,
}

/// The tokens that end a sequence: what [`MinNewTokens`] bans. On their own they change no row.
pub(super) const EOS: Parameter = Parameter {
    name: "eos_token_id",
    kind: Kind::Tokens,
    default: Value::Nothing,
    off: Value::Nothing,
    range: "token ids of the vocabulary",
    help: "What min_new_tokens bans; a `Decoder` fills it in from its tokenizer.",
};

impl Processor for MinNewTokens {
    type Given = i64;

    const PARAMETER: Parameter = Parameter {
        name: "min_new_tokens",
        kind: Kind::Integer,
        default: Value::Integer(0),
        off: Value::Integer(0),
        range: "at least 0",
        help: "No end-of-sequence token before this many tokens. 0 is off.",
    };

    fn new(&given: &i64, all: &ProcessorParams) -> Result<Option<Self>> {
        let least = at_least_zero(given, Error::MinNewTokens)?;
        Ok((least > 0).then(|| Self { given, least, eos: all.eos.clone() }))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn bans(&self) -> bool {
        true
    }

    fn changes(&self) -> bool {
        false
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        if past.generated() < self.least {
            for &token in &self.eos {
                ban(row, token);
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.eos.is_empty() {
            return Err(Error::NoEos { min_new_tokens: self.given });
        }
        Ok(())
    }
}
