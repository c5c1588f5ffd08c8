//! No-repeat n-gram.

use super::ProcessorParams;
use super::past::Past;
use super::rule::{Processor, at_least_zero, ban};
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Bans each token that would make an n-gram of this size occur again (Paulus et al., "A deep
/// reinforced model for abstractive summarization", 2018; as in transformers). 0 is off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NoRepeatNgram(usize);

impl Processor for NoRepeatNgram {
    type Given = i64;

    const PARAMETER: Parameter = Parameter {
        name: "no_repeat_ngram_size",
        kind: Kind::Integer,
        default: Value::Integer(0),
        off: Value::Integer(0),
        range: "at least 0",
        help: "No n-gram of this size occurs twice. 0 is off.",
    };

    fn new(&given: &i64, _: &ProcessorParams) -> Result<Option<Self>> {
        let size = at_least_zero(given, Error::NoRepeatNgramSize)?;
        Ok((size > 0).then_some(Self(size)))
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
        let Self(size) = *self;
        let tokens = past.tokens();
        let (repeats, _) = past.repeats();
        // What follows an earlier occurrence of the last `size - 1` tokens would complete an n-gram.
        for (distance, length) in repeats.iter() {
            if length >= size - 1 {
                ban(row, tokens[tokens.len() - distance]);
            }
        }
    }
}
