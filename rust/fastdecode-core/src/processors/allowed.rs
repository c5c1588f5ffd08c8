//! The tokens that remain when all others are banned.

use super::ProcessorParams;
use super::past::Past;
use super::rule::Processor;
use crate::error::{Error, Result};
use crate::parameter::{Kind, Parameter, Value};

/// Bans all tokens but these: their ids, sorted, each once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Allowed(Vec<u32>);

impl Allowed {
    /// Bans the stretches between the allowed tokens.
    pub(super) fn restrict(&self, row: &mut [f32]) {
        let mut start = 0;
        for &id in &self.0 {
            let id = id as usize;
            row[start..id].fill(f32::NEG_INFINITY);
            start = id + 1;
        }
        row[start..].fill(f32::NEG_INFINITY);
    }
}

impl Processor for Allowed {
    type Given = Option<Vec<u32>>;

    const PARAMETER: Parameter = Parameter {
        name: "allowed",
        kind: Kind::Tokens,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "at least one token id of the vocabulary",
        help: "Bans all other token ids.",
    };

    const RESTRICTS: bool = true;

    fn new(given: &Self::Given, _: &ProcessorParams) -> Result<Option<Self>> {
        let Some(ids) = given else { return Ok(None) };
        if ids.is_empty() {
            return Err(Error::NoneAllowed);
        }
        let mut ids = ids.clone();
        ids.sort_unstable();
        ids.dedup();
        Ok(Some(Self(ids)))
    }

    fn needs_history(&self) -> bool {
        false
    }

    fn bans(&self) -> bool {
        true
    }

    fn changes(&self) -> bool {
        false
    }

    fn apply(&self, row: &mut [f32], _: &mut Past) {
        self.restrict(row);
    }

    fn largest_id(given: &Self::Given) -> Option<(&'static str, u32)> {
        given.iter().flatten().max().map(|&id| ("allowed", id))
    }
}
