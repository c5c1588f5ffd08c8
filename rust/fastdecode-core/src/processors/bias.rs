//! Logit bias.

use std::collections::HashSet;

use super::ProcessorParams;
use super::past::Past;
use super::rule::Processor;
use super::sequences::Sequences;
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Adds a number to a token's logit; for a sequence of tokens, to the last one's where the history
/// ends with the ones before it (transformers' `sequence_bias`). -inf bans.
///
/// Several biases of one token are added one after the other, the shortest sequence first, then by
/// ids, so that the order in which they are written does not matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogitBias(Sequences);

impl Processor for LogitBias {
    type Given = Vec<(Vec<u32>, f32)>;

    const PARAMETER: Parameter = Parameter {
        name: "logit_bias",
        kind: Kind::Biases,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "finite float32s, or -inf to ban",
        help: "Added to the logit of a token id, or of the last of a tuple of ids where the text \
               ends with the others. -inf bans.",
    };

    fn new(given: &Self::Given, _: &ProcessorParams) -> Result<Option<Self>> {
        let mut seen = HashSet::new();
        for (index, (ids, bias)) in given.iter().enumerate() {
            if ids.is_empty() {
                return Err(Error::EmptySequence { name: "logit_bias", index });
            }
            if bias.is_nan() || *bias == f32::INFINITY {
                return Err(Error::LogitBias { tokens: ids.clone(), bias: *bias });
            }
            if !seen.insert(ids) {
                return Err(Error::LogitBiasTwice { tokens: ids.clone() });
            }
        }
        Ok((!given.is_empty()).then(|| Self(Sequences::new(given.clone()))))
    }

    fn needs_history(&self) -> bool {
        self.0.need_history()
    }

    fn bans(&self) -> bool {
        self.0.biases().any(f32::is_infinite)
    }

    fn changes(&self) -> bool {
        self.0.biases().any(f32::is_finite)
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        self.0.apply(row, past.tokens());
    }

    fn largest_id(given: &Self::Given) -> Option<(&'static str, u32)> {
        given.iter().flat_map(|(ids, _)| ids).max().map(|&id| ("logit_bias", id))
    }
}
