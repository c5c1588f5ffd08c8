//! The search for one prompt: its tree, its groups of live beams, and its finished sequences.

use super::finished::{Ending, Finished, Hypothesis};
use super::group::{Child, Group, GroupStep, Live, StopRule};
use super::gumbel;
use super::open::Row;
use super::params::Beam;
use super::trace::Expansion;
use super::tree::{ROOT, Tree};
use crate::error::Result;
use crate::rng::key::{Key, Purpose};
use fastdecode_simd::memory;

/// A prompt to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its index, for error messages.
    pub index: usize,
    /// Its tokens; constraints that look back see them.
    pub ids: Vec<u32>,
    /// The most new tokens, at least 1.
    pub limit: usize,
    /// Its random stream, for the choices that are random.
    pub stream: u32,
}

/// A sequence, finished or in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The new tokens, with the one that ended them.
    pub tokens: Vec<u32>,
    /// Each token's log-probability under the model, in nats.
    pub logprobs: Vec<f64>,
    /// The search's score: the sum of the processed log-probabilities, less diversity penalties, over
    /// the length to the power of the length penalty. In a stochastic beam search, the
    /// log-probability under the law that is drawn from.
    pub score: f64,
    /// Why it ended; None where the search was stopped before that.
    pub ending: Option<Ending>,
    /// The probability that a stochastic beam search includes it, given its threshold.
    pub inclusion: Option<f64>,
    /// Its last node in the search's tree.
    pub node: u32,
}

impl Outcome {
    /// Bytes of an outcome of this number of tokens, while it is made.
    pub(super) fn bytes(tokens: usize) -> usize {
        // Its vectors are collected in one order and turned round, and the allocator adds to each.
        let vectors = size_of::<u32>() + 2 * size_of::<f64>();
        size_of::<Self>() + 64 + 2 * vectors * tokens
    }
}

#[derive(Debug, Clone)]
pub(super) struct Search {
    pub prompt: Prompt,
    pub tree: Tree,
    pub expansions: Option<Vec<Expansion>>,
    groups: Vec<Group>,
    /// New tokens of every live beam.
    pub length: usize,
}

impl Search {
    pub fn new(beam: &Beam, prompt: Prompt, seed: u64, trace: bool) -> Result<Self> {
        let mut root = Live { node: ROOT, row: 0, score: 0.0, gumbel: 0.0 };
        if beam.is_stochastic() {
            // No beam has this number, so no other draw shares the root's noise.
            let key = Key { seed, stream: prompt.stream, sample: u32::MAX, position: 0 };
            let uniform = key.open_uniform(Purpose::Gumbel);
            root.gumbel = gumbel::truncated_gumbel(0.0, f64::INFINITY, uniform);
        }
        let room = beam.width() / beam.groups;
        let group = Group { live: vec![root], finished: Finished::new(room) };
        // Memory for a group's beams is allocated when it has them; what it needs at first is small.
        memory::probe(beam.groups.saturating_mul(size_of::<Group>() + size_of::<Live>()))?;
        let groups = memory::filled(group, beam.groups)?;
        let expansions = trace.then(Vec::new);
        Ok(Self { prompt, tree: Tree::default(), expansions, groups, length: 0 })
    }

    /// The live beams, one for each row of logits. Before the first token one row serves all
    /// groups.
    pub fn rows(&self) -> impl Iterator<Item = &Live> {
        let groups = if self.length == 0 { &self.groups[..1] } else { &self.groups[..] };
        groups.iter().flat_map(|group| &group.live)
    }

    pub fn is_done(&self) -> bool {
        self.groups.iter().all(|group| group.live.is_empty())
    }

    pub fn has_finished(&self) -> bool {
        self.groups.iter().any(|group| !group.finished.best.is_empty())
    }

    /// Takes a row for each live beam, and extends every beam by one token. Returns the next rows.
    pub fn advance(
        &mut self,
        beam: &Beam,
        ends: &[u32],
        seed: u64,
        rows: &mut [Row],
        mut stop: Option<&mut StopRule<'_>>,
    ) -> Vec<Child> {
        let position = (self.prompt.ids.len() + self.length) as u32;
        self.length += 1;
        let mut next: Vec<Child> = Vec::new();
        let mut taken = Vec::new();
        for group in &mut self.groups {
            let mut step = GroupStep {
                beam,
                ends,
                stop: stop.as_deref_mut(),
                rows: &mut *rows,
                length: self.length,
                limit: self.prompt.limit,
                key: Key { seed, stream: self.prompt.stream, sample: 0, position },
                tree: &mut self.tree,
                expansions: self.expansions.as_mut(),
            };
            let first = next.len();
            next.extend(group.advance(&mut step, &mut taken));
            for (row, live) in (first as u32..).zip(&mut group.live) {
                live.row = row;
            }
        }
        next
    }

    /// The finished sequences, best first, then the live ones; at most `count`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn outcomes(&self, beam: &Beam, count: usize) -> Result<Vec<Outcome>> {
        let stochastic = beam.is_stochastic();
        let sequences = |group: &Group| group.finished.best.len() + group.live.len();
        let most = self.groups.iter().map(sequences).sum::<usize>();
        let each = size_of::<(Hypothesis, Option<Ending>)>();
        memory::probe(most.saturating_mul(each) + most.min(count) * Outcome::bytes(self.length))?;
        let ranked = self.ranked(beam);
        let threshold = ranked.get(count).map_or(f64::NEG_INFINITY, |(next, _)| next.score);
        let outcome = |(one, ending): &(Hypothesis, Option<Ending>)| Outcome {
            tokens: self.tree.tokens(one.node),
            logprobs: self.tree.logprobs(one.node),
            score: if stochastic { one.sum } else { one.score },
            ending: *ending,
            inclusion: stochastic.then(|| gumbel::inclusion(one.sum, threshold)),
            node: one.node,
        };
        Ok(ranked.iter().take(count).map(outcome).collect())
    }

    /// The last node common to all sequences that may still become the best one.
    pub fn settled(&self, beam: &Beam) -> u32 {
        let ranked = self.ranked(beam);
        let kept = if self.is_done() { 1 } else { ranked.len() };
        self.tree.common(ranked.iter().take(kept).map(|(one, _)| one.node))
    }

    /// The finished hypotheses, best first, then the live beams as they stand. In a stochastic
    /// beam search all of them, by their noise.
    fn ranked(&self, beam: &Beam) -> Vec<(Hypothesis, Option<Ending>)> {
        let stochastic = beam.is_stochastic();
        let finished = self.groups.iter().flat_map(|group| &group.finished.best);
        let live = self.groups.iter().flat_map(|group| &group.live).map(|live| {
            let sum = live.score;
            let per_length = beam.score(sum, self.length.max(1));
            let score = if stochastic { live.gumbel } else { per_length };
            (Hypothesis { node: live.node, score, sum, ending: Ending::Limit }, None)
        });
        let mut ranked: Vec<_> = finished.map(|one| (*one, Some(one.ending))).chain(live).collect();
        ranked.sort_by(|a, b| {
            let by_state = a.1.is_none().cmp(&b.1.is_none());
            let by_score = b.0.score.total_cmp(&a.0.score);
            if stochastic { by_score } else { by_state.then(by_score) }
        });
        ranked
    }
}
