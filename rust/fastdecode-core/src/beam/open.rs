//! From a row of raw logits to the continuations of its beam. The (beams, vocabulary) table of
//! log-probabilities is never built: a row gives its normaliser and its best few tokens.

use std::cmp::Ordering;

use super::gumbel::Noisy;
use super::params::{Beam, Choice};
use crate::error::{Error, Result};
use crate::law::logprob::logsumexp;
use crate::level::Level;
use crate::pipeline::sampler::Scratch;
use crate::processors::History;
use crate::row::scan::survey;
use crate::row::select;

/// A beam with one more token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Continuation {
    /// The beam's place among the rows of its prompt.
    pub parent: u32,
    pub token: u32,
    /// The token's own log-probability under the model.
    pub logprob: f64,
    /// The sum that the search compares: log-probabilities less diversity penalties.
    pub score: f64,
    /// The perturbed log-probability, where the choice is random; otherwise unused.
    pub gumbel: f64,
}

impl Continuation {
    /// Larger score first, then the earlier beam, then the lower token id.
    pub fn order(&self, other: &Self) -> Ordering {
        // Adding zero turns -0.0 into 0.0.
        (other.score + 0.0)
            .total_cmp(&(self.score + 0.0))
            .then(self.parent.cmp(&other.parent))
            .then(self.token.cmp(&other.token))
    }
}

/// A token of a row, with what it adds to a beam's sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    pub token: u32,
    /// Its log-probability under the model.
    pub logprob: f64,
    /// The same after the edits.
    pub edited: f64,
}

/// A row, read.
#[derive(Debug, Clone)]
pub(super) enum Row {
    /// The best tokens that may come next.
    Best(Vec<Scored>),
    /// The law to draw from without replacement.
    Noisy(Noisy),
}

/// How rows are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub level: Level,
    pub beam: &'a Beam,
    /// Tokens wanted of each row.
    pub k: usize,
}

impl Reader<'_> {
    /// Reads a row. Log-probabilities are the model's own, whatever is banned.
    pub fn read(
        self,
        row: &[f32],
        history: History,
        allowed: Option<&[u32]>,
        scratch: &mut Scratch,
    ) -> Result<Row> {
        let normaliser = logsumexp(self.level, row, scratch)?;
        let edits = self.beam.edits();
        if edits.is_empty() && allowed.is_none() {
            return self.of(row, None, normaliser, scratch);
        }
        let mut edited = std::mem::take(&mut scratch.edited);
        edited.clear();
        // Bans may work on the logits, where no rounding can make a tie.
        let shift = if edits.only_ban() { 0.0 } else { normaliser };
        edited.extend(row.iter().map(|&logit| shifted(logit, shift)));
        let result = edits
            .apply(&mut edited, history, &mut scratch.edits)
            .and_then(|()| allowed.map_or(Ok(()), |allowed| hold_to(&mut edited, allowed)))
            .and_then(|()| self.of(row, Some((&edited, shift)), normaliser, scratch));
        scratch.edited = edited;
        result
    }

    fn of(
        self,
        row: &[f32],
        edited: Option<(&[f32], f64)>,
        normaliser: f64,
        scratch: &mut Scratch,
    ) -> Result<Row> {
        match &self.beam.params().choice {
            Choice::Sampled(sampler) | Choice::Stochastic(sampler) => {
                let edited = edited.map(|(edited, _)| edited);
                Noisy::read(row, edited, normaliser, sampler, scratch).map(Row::Noisy)
            }
            Choice::Best => self.best(row, edited, normaliser, scratch).map(Row::Best),
        }
    }

    /// The `k` best tokens after the edits; `scratch` holds the row's own maxima.
    fn best(
        self,
        row: &[f32],
        edited: Option<(&[f32], f64)>,
        normaliser: f64,
        scratch: &mut Scratch,
    ) -> Result<Vec<Scored>> {
        let Scratch { tops, folded, keys, candidates, .. } = scratch;
        let (values, shift) = edited.unwrap_or((row, 0.0));
        if edited.is_some() {
            match survey(self.level, values, tops) {
                // The edits leave nothing: this beam has no continuation.
                Err(Error::NothingAllowed { .. }) => return Ok(Vec::new()),
                other => other?,
            };
        }
        select::top_k(self.level, values, tops, self.k, folded, keys, candidates);
        let allowed = candidates.iter().filter(|candidate| candidate.logit > f32::NEG_INFINITY);
        let scored = allowed.map(|candidate| {
            let logit = row[candidate.id as usize];
            let logprob = f64::from(logit) - normaliser;
            let untouched = candidate.logit == shifted(logit, shift);
            let edited = if untouched { logprob } else { f64::from(candidate.logit) };
            Scored { token: candidate.id, logprob, edited }
        });
        Ok(scored.collect())
    }
}

fn shifted(logit: f32, shift: f64) -> f32 {
    (f64::from(logit) - shift) as f32
}

/// Bans all but `allowed`.
fn hold_to(row: &mut [f32], allowed: &[u32]) -> Result<()> {
    let size = row.len();
    let kept = allowed.iter().map(|&token| {
        let value = row.get(token as usize).copied();
        value.map(|value| (token, value)).ok_or(Error::UnknownToken {
            name: "allowed",
            token,
            size,
        })
    });
    let kept = kept.collect::<Result<Vec<_>>>()?;
    row.fill(f32::NEG_INFINITY);
    for (token, value) in kept {
        row[token as usize] = value;
    }
    Ok(())
}
