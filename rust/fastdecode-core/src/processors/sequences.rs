//! Token sequences whose completion is made likelier, less likely, or impossible.

use super::rule::{ban, change};

/// Sequences and what each adds to the logit of its last token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sequences {
    /// Sequences of one token, which always apply.
    single: Vec<(u32, f32)>,
    /// Longer sequences, sorted by the last token but one, which must be the history's last; then
    /// by length; then by ids.
    longer: Vec<(Vec<u32>, f32)>,
}

impl Sequences {
    /// From sequences that are not empty.
    pub(super) fn new(all: Vec<(Vec<u32>, f32)>) -> Self {
        let (single, mut longer): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(ids, _)| ids.len() == 1);
        longer.sort_unstable_by(|(a, _), (b, _)| {
            (last_but_one(a), a.len(), a).cmp(&(last_but_one(b), b.len(), b))
        });
        Self { single: single.into_iter().map(|(ids, bias)| (ids[0], bias)).collect(), longer }
    }

    pub(super) fn need_history(&self) -> bool {
        !self.longer.is_empty()
    }

    /// What each sequence adds to a logit.
    pub(super) fn biases(&self) -> impl Iterator<Item = f32> {
        let single = self.single.iter().map(|&(_, bias)| bias);
        single.chain(self.longer.iter().map(|&(_, bias)| bias))
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

/// The last token but one of a sequence of at least two.
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
