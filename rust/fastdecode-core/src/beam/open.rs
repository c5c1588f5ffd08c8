//! From a row of raw logits to the continuations of its beam. The (beams, vocabulary) table of
//! log-probabilities is never built: a row gives its normaliser and its best few tokens.

use super::gumbel::Noisy;
use super::params::{Beam, Choice};
use crate::error::{Error, Result};
use crate::processors::History;
use crate::queries::logsumexp;
use crate::row::scan::survey;
use crate::row::select;
use crate::truncation::survivors::SurvivorWorkspace;
use crate::workspace::Workspace;
use fastdecode_simd::{Level, memory};

/// A token of a row, with what it adds to a beam's sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    pub token: u32,
    /// Its log-probability under the model.
    pub logprob: f64,
    /// The same after the processors.
    pub processed: f64,
}

/// What a search needs of a row of logits.
#[derive(Debug, Clone)]
pub(super) enum Row {
    /// The best tokens that may come next.
    Best(Vec<Scored>),
    /// The law to draw from without replacement.
    Noisy(Noisy),
}

impl Row {
    /// How many candidates it has for a step that wants this many.
    pub fn candidates(&self, wanted: usize) -> usize {
        match self {
            Self::Best(top) => top.len(),
            Self::Noisy(_) => wanted,
        }
    }
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
        workspace: &mut Workspace,
    ) -> Result<Row> {
        let normaliser = logsumexp(self.level, row, workspace)?;
        let processors = self.beam.processors();
        if processors.is_empty() && allowed.is_none() {
            return self.of(row, None, normaliser, workspace);
        }
        let mut processed = std::mem::take(&mut workspace.processed);
        processed.clear();
        // Bans may act on the logits directly, because rounding cannot create a tie there.
        let shift = if processors.only_ban() { 0.0 } else { normaliser };
        processed.extend(row.iter().map(|&logit| shifted(logit, shift)));
        let result = processors
            .apply(&mut processed, history, &mut workspace.processors)
            .and_then(|()| allowed.map_or(Ok(()), |allowed| hold_to(&mut processed, allowed)))
            .and_then(|()| self.of(row, Some((&processed, shift)), normaliser, workspace));
        workspace.processed = processed;
        result
    }

    fn of(
        self,
        row: &[f32],
        processed: Option<(&[f32], f64)>,
        normaliser: f64,
        workspace: &mut Workspace,
    ) -> Result<Row> {
        match &self.beam.params().choice {
            Choice::Sampled(sampler) | Choice::Stochastic(sampler) => {
                let processed = processed.map(|(processed, _)| processed);
                Noisy::read(row, processed, normaliser, sampler, workspace).map(Row::Noisy)
            }
            Choice::Best => self.best(row, processed, normaliser, workspace).map(Row::Best),
        }
    }

    /// The `k` best tokens after the processors; `workspace` holds the row's own maxima.
    fn best(
        self,
        row: &[f32],
        processed: Option<(&[f32], f64)>,
        normaliser: f64,
        workspace: &mut Workspace,
    ) -> Result<Vec<Scored>> {
        let SurvivorWorkspace { tops, folded, keys, candidates, .. } = &mut workspace.survivors;
        let (values, shift) = processed.unwrap_or((row, 0.0));
        if processed.is_some() {
            match survey(self.level, values, tops) {
                // The processors leave nothing: this beam has no continuation.
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
            let processed = if untouched { logprob } else { f64::from(candidate.logit) };
            Scored { token: candidate.id, logprob, processed }
        });
        let mut best = memory::with_room(candidates.len())?;
        best.extend(scored);
        Ok(best)
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
    let mut held = memory::with_room(allowed.len())?;
    for one in kept {
        held.push(one?);
    }
    row.fill(f32::NEG_INFINITY);
    for (token, value) in held {
        row[token as usize] = value;
    }
    Ok(())
}
