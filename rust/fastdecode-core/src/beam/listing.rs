//! All continuations of a prompt that are likelier than a bound: exact, without beams.

use super::finished::Ending;
use super::search::Outcome;
use super::tree::{ROOT, Tree};
use crate::error::{Error, Result};
use crate::math::ln::ln_real;
use crate::queries::logsumexp;
use crate::row::logits::Logits;
use crate::row::select;
use crate::truncation::survivors::SurvivorWorkspace;
use crate::workspace::Workspace;
use fastdecode_simd::{Level, memory};

/// A search for all complete continuations (ended by an end-of-sequence token or by the limit)
/// with at least a given probability. A continuation is never likelier than its beginning, so
/// beginnings below the bound are dropped, and at most `1 / bound` are in progress.
#[derive(Debug, Clone)]
pub struct Listing {
    ends: Vec<u32>,
    limit: usize,
    /// ln of the bound, in nats.
    bound: f64,
    level: Level,
    tree: Tree,
    live: Vec<u32>,
    length: usize,
    finished: Vec<(u32, Ending)>,
}

/// Bytes that a step takes for each continuation, those before it included, at most.
const EACH_FOUND: usize = 128;

impl Listing {
    /// Begins with one row: the logits that follow the prompt. `limit` is the most new tokens.
    ///
    /// # Errors
    /// [`Error::MinProbability`] outside (0, 1], [`Error::Zero`] for a limit of 0.
    pub fn new(min_probability: f64, limit: usize, ends: Vec<u32>) -> Result<Self> {
        // With a subnormal bound the search would not end in any practical time.
        if !(min_probability.is_normal() && min_probability > 0.0 && min_probability <= 1.0) {
            return Err(Error::MinProbability(min_probability));
        }
        if limit == 0 {
            return Err(Error::Zero { name: "limit" });
        }
        Ok(Self {
            ends,
            limit,
            bound: ln_real(min_probability),
            level: Level::detect(),
            tree: Tree::default(),
            live: vec![ROOT],
            length: 0,
            finished: Vec::new(),
        })
    }

    /// How many rows of logits the next step takes; 0 once everything is listed.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.live.len()
    }

    /// Takes the logits that follow every beginning in progress. Returns the tokens of the next rows,
    /// and the rows that they continue.
    ///
    /// # Errors
    /// A number of rows other than [`Listing::rows`], or rows that are not logits.
    pub fn step(&mut self, logits: &Logits) -> Result<(Vec<u32>, Vec<u32>)> {
        if logits.rows != self.live.len() {
            return Err(Error::BeamRows { got: logits.rows, rows: self.live.len() });
        }
        let read = |index: usize, row: &[f32], workspace: &mut Workspace| {
            self.likely(row, self.tree.node(self.live[index]).logprob, workspace)
        };
        let rows = logits.map(read)?;
        let (mut tokens, mut parents, mut next) = (Vec::new(), Vec::new(), Vec::new());
        // The tree and the lists grow by doubling.
        let found: usize = rows.iter().map(Vec::len).sum();
        let kept = self.tree.count() + self.finished.len();
        memory::probe(found.saturating_add(kept).saturating_mul(EACH_FOUND))?;
        self.length += 1;
        for (row, likely) in (0..).zip(rows) {
            for (token, logprob) in likely {
                let node = self.tree.push(self.live[row as usize], token, logprob);
                if self.ends.contains(&token) {
                    self.finished.push((node, Ending::Eos));
                } else if self.length == self.limit {
                    self.finished.push((node, Ending::Limit));
                } else {
                    tokens.push(token);
                    parents.push(row);
                    next.push(node);
                }
            }
        }
        self.live = next;
        Ok((tokens, parents))
    }

    /// The continuations listed so far, likeliest first; on a tie the one found first.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn outcomes(&self) -> Result<Vec<Outcome>> {
        memory::probe(self.finished.len().saturating_mul(Outcome::bytes(self.length)))?;
        let outcome = |&(node, ending): &(u32, Ending)| Outcome {
            tokens: self.tree.tokens(node),
            logprobs: self.tree.logprobs(node),
            score: self.tree.node(node).logprob,
            ending: Some(ending),
            inclusion: None,
            node,
        };
        let mut outcomes: Vec<Outcome> = self.finished.iter().map(outcome).collect();
        outcomes.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(outcomes)
    }

    /// The tokens of a row that keep a beginning at the bound or above, in the order of ids.
    fn likely(
        &self,
        row: &[f32],
        before: f64,
        workspace: &mut Workspace,
    ) -> Result<Vec<(u32, f64)>> {
        let normaliser = logsumexp(self.level, row, workspace)?;
        let least = self.bound - before + normaliser;
        let SurvivorWorkspace { tops, candidates, .. } = &mut workspace.survivors;
        select::gather(self.level, row, tops, (least as f32).next_down(), candidates);
        let likely = candidates.iter().filter(|candidate| {
            candidate.logit > f32::NEG_INFINITY && f64::from(candidate.logit) >= least
        });
        let mut found = memory::with_room(candidates.len())?;
        found.extend(likely.map(|one| (one.id, f64::from(one.logit) - normaliser)));
        Ok(found)
    }
}
