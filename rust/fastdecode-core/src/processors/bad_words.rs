//! Bad words.

use super::ProcessorParams;
use super::past::Past;
use super::rule::Processor;
use super::sequences::Sequences;
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Sequences of tokens that are never completed. As in transformers, a word that is an
/// end-of-sequence token alone is left out: text may always end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BadWords(Sequences);

impl Processor for BadWords {
    type Given = Vec<Vec<u32>>;

    const PARAMETER: Parameter = Parameter {
        name: "bad_words",
        kind: Kind::Sequences,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "sequences of at least one token id",
        help: "Token id sequences that are never completed. A word that is one EOS token alone is \
               ignored, as in transformers.",
    };

    fn new(given: &Self::Given, all: &ProcessorParams) -> Result<Option<Self>> {
        if let Some(index) = given.iter().position(Vec::is_empty) {
            return Err(Error::EmptySequence { name: "bad_words", index });
        }
        let ends = |word: &[u32]| matches!(word, [token] if all.eos.contains(token));
        let kept = given.iter().filter(|word| !ends(word));
        let kept: Vec<_> = kept.map(|word| (word.clone(), f32::NEG_INFINITY)).collect();
        Ok((!kept.is_empty()).then(|| Self(Sequences::new(kept))))
    }

    fn needs_history(&self) -> bool {
        self.0.need_history()
    }

    fn bans(&self) -> bool {
        true
    }

    fn changes(&self) -> bool {
        false
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        self.0.apply(row, past.tokens());
    }

    fn largest_id(given: &Self::Given) -> Option<(&'static str, u32)> {
        given.iter().flatten().max().map(|&id| ("bad_words", id))
    }
}
