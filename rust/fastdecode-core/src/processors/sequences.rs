//! Token sequences whose completion is made likelier, less likely, or impossible.

use std::collections::HashSet;

use super::{ban, change};
use crate::error::{Error, Result};

/// Sequences and what each adds to the logit of its last token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sequences {
    /// Of one token: always about to be completed.
    single: Vec<(u32, f32)>,
    /// Of more. Sorted by the last token but one, which must be the history's last; then the
    /// shorter first; then by ids.
    longer: Vec<(Vec<u32>, f32)>,
}

impl Sequences {
    /// From `logit_bias`.
    pub(super) fn biases(given: &[(Vec<u32>, f32)]) -> Result<Self> {
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
        Ok(Self::sorted(given.to_vec()))
    }

    /// From `bad_words`, without the words that are an end-of-sequence token alone.
    pub(super) fn bans(words: &[Vec<u32>], eos: &[u32]) -> Result<Self> {
        if let Some(index) = words.iter().position(Vec::is_empty) {
            return Err(Error::EmptySequence { name: "bad_words", index });
        }
        let ends = |word: &[u32]| matches!(word, [token] if eos.contains(token));
        let kept = words.iter().filter(|word| !ends(word));
        Ok(Self::sorted(kept.map(|word| (word.clone(), f32::NEG_INFINITY)).collect()))
    }

    fn sorted(all: Vec<(Vec<u32>, f32)>) -> Self {
        let (single, mut longer): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(ids, _)| ids.len() == 1);
        longer.sort_unstable_by(|(a, _), (b, _)| {
            (last_but_one(a), a.len(), a).cmp(&(last_but_one(b), b.len(), b))
        });
        Self { single: single.into_iter().map(|(ids, bias)| (ids[0], bias)).collect(), longer }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.single.is_empty() && self.longer.is_empty()
    }

    pub(super) fn need_history(&self) -> bool {
        !self.longer.is_empty()
    }

    /// Whether one of them makes a token impossible.
    pub(super) fn ban(&self) -> bool {
        let single = self.single.iter().map(|&(_, bias)| bias);
        single.chain(self.longer.iter().map(|&(_, bias)| bias)).any(f32::is_infinite)
    }

    pub(super) fn apply(&self, row: &mut [f32], tokens: &[u32]) {
        for &(token, bias) in &self.single {
            add(row, token, bias);
        }
        let Some(&last) = tokens.last() else { return };
        let start = self.longer.partition_point(|(ids, _)| last_but_one(ids) < last);
        for (ids, bias) in &self.longer[start..] {
            if last_but_one(ids) != last {
                break;
            }
            let (token, before) = (ids[ids.len() - 1], &ids[..ids.len() - 1]);
            if tokens.ends_with(before) {
                add(row, token, *bias);
            }
        }
    }
}

/// Of a sequence of at least two.
fn last_but_one(ids: &[u32]) -> u32 {
    ids[ids.len() - 2]
}

fn add(row: &mut [f32], token: u32, bias: f32) {
    if bias == f32::NEG_INFINITY {
        ban(row, token);
    } else {
        change(row, token, |logit| logit + bias);
    }
}
