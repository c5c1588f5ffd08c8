//! Beams that compete with each other: all of a prompt's, or one group of a diverse beam search.

use super::continuation::Continuation;
use super::finished::{Ending, Finished, Hypothesis};
use super::gumbel::{self, Noisy, Source};
use super::open::{Row, Scored};
use super::params::{Beam, Choice};
use super::trace::{Expansion, Fate};
use super::tree::Tree;
use crate::rng::key::Key;

/// A live beam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Live {
    /// Its last node.
    pub node: u32,
    /// The index of its row among those of its prompt.
    pub row: u32,
    /// The score that the search compares: log-probabilities less diversity penalties.
    pub score: f64,
    /// Its perturbed log-probability, in a stochastic beam search.
    pub gumbel: f64,
}

/// Asks the caller whether its stop rule ends a sequence of new tokens here.
pub type StopRule<'a> = dyn FnMut(&[u32]) -> bool + 'a;

/// The inputs of a group's step.
pub(super) struct GroupStep<'a, 'b> {
    pub beam: &'a Beam,
    pub ends: &'a [u32],
    pub stop: Option<&'a mut StopRule<'b>>,
    /// The prompt's rows.
    pub rows: &'a mut [Row],
    /// The number of new tokens of a sequence after this step, and its maximum.
    pub length: usize,
    pub limit: usize,
    /// The step's key; a draw replaces its sample.
    pub key: Key,
    pub tree: &'a mut Tree,
    pub expansions: Option<&'a mut Vec<Expansion>>,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub live: Vec<Live>,
    pub finished: Finished,
}

/// A live beam of the next step, and the row it grew from.
pub(super) struct Child {
    pub live: Live,
    pub token: u32,
    pub parent_row: u32,
}

impl Group {
    /// Advances every beam by a token. `taken` holds the tokens that earlier groups chose at this
    /// step, except those that ended a sequence; this group's are added.
    pub fn advance(&mut self, step: &mut GroupStep, taken: &mut Vec<u32>) -> Vec<Child> {
        let chosen = match step.beam.params().choice {
            Choice::Best => self.best(step, taken),
            Choice::Sampled(_) => self.drawn(step, step.beam.candidates(step.ends.len()), false),
            Choice::Stochastic(_) => self.drawn(step, step.beam.width(), true),
        };
        let mut fates = vec![Fate::Pruned; chosen.len()];
        let children = match step.beam.params().choice {
            Choice::Stochastic(_) => self.compete(step, &chosen, &mut fates),
            _ => self.rank(step, &chosen, &mut fates),
        };
        let lasting = chosen.iter().zip(&fates).filter(|(_, fate)| **fate != Fate::Pruned);
        taken.extend(lasting.map(|(one, _)| one.token).filter(|token| !step.ends.contains(token)));
        self.note(step, &chosen, &fates);
        self.live = children.iter().map(|child| child.live).collect();
        if self.is_over(step) {
            self.live.clear();
            return Vec::new();
        }
        children
    }

    /// The best continuations of all beams, best first.
    fn best(&self, step: &GroupStep, taken: &[u32]) -> Vec<Continuation> {
        let penalty = step.beam.params().diversity_penalty;
        let mut all = Vec::new();
        for (parent, live) in (0..).zip(&self.live) {
            let Row::Best(top) = &step.rows[live.row as usize] else {
                continue;
            };
            all.extend(top.iter().map(|&Scored { token, logprob, processed }| {
                let same = taken.iter().filter(|&&other| other == token).count();
                let score = live.score + processed - penalty * same as f64;
                Continuation { parent, token, logprob, score, gumbel: 0.0 }
            }));
        }
        let count = step.beam.candidates(step.ends.len());
        if count < all.len() {
            all.select_nth_unstable_by(count - 1, Continuation::order);
            all.truncate(count);
        }
        all.sort_unstable_by(Continuation::order);
        all
    }

    /// Continuations drawn without replacement, in the order of drawing.
    fn drawn(
        &self,
        step: &mut GroupStep,
        count: usize,
        whole_sequences: bool,
    ) -> Vec<Continuation> {
        let mut rows: Vec<(Source, Noisy)> = Vec::with_capacity(self.live.len());
        for (parent, live) in (0..).zip(&self.live) {
            if let Row::Noisy(noisy) = &mut step.rows[live.row as usize] {
                let first = whole_sequences.then_some(live.gumbel);
                let source = Source { parent, score: live.score, first, key: step.key };
                rows.push((source, std::mem::take(noisy)));
            }
        }
        gumbel::largest(&mut rows, count)
    }

    /// Beam search's own rule: of the candidates that end, those among the first `num_beams` are
    /// finished hypotheses; of the others, the best live on.
    fn rank(
        &mut self,
        step: &mut GroupStep,
        chosen: &[Continuation],
        fates: &mut [Fate],
    ) -> Vec<Child> {
        let size = step.beam.group_size();
        let mut going: Vec<(usize, Continuation)> = Vec::with_capacity(chosen.len());
        for (rank, one) in chosen.iter().enumerate() {
            match step.ending(self.parent(one).node, one.token) {
                None => going.push((rank, *one)),
                Some(ending) if rank < size => {
                    let node = self.grow(step, one);
                    let score = step.beam.score(one.score, step.length);
                    self.finished.offer(Hypothesis { node, score, sum: one.score, ending });
                    fates[rank] = Fate::Finished(node);
                }
                Some(_) => {}
            }
        }
        // Drawn candidates come in the order of drawing, and live on in the order of their scores.
        going.sort_by(|a, b| a.1.order(&b.1));
        going.truncate(size);
        let child = |(rank, one): (usize, Continuation)| {
            let node = self.grow(step, &one);
            fates[rank] = Fate::Kept(node);
            self.child(&one, node)
        };
        going.into_iter().map(child).collect()
    }

    /// Stochastic beam search's rule: finished and live sequences compete by their noise alone.
    fn compete(
        &mut self,
        step: &mut GroupStep,
        chosen: &[Continuation],
        fates: &mut [Fate],
    ) -> Vec<Child> {
        let mut held = std::mem::take(&mut self.finished.best).into_iter().peekable();
        let mut children = Vec::new();
        let mut room = step.beam.width();
        for (rank, one) in chosen.iter().enumerate() {
            while let Some(before) = held.next_if(|h| room > 0 && h.score >= one.gumbel) {
                self.finished.best.push(before);
                room -= 1;
            }
            if room == 0 {
                break;
            }
            room -= 1;
            let node = self.grow(step, one);
            if let Some(ending) = step.ending(self.parent(one).node, one.token) {
                let (score, sum) = (one.gumbel, one.score);
                self.finished.best.push(Hypothesis { node, score, sum, ending });
                fates[rank] = Fate::Finished(node);
            } else {
                fates[rank] = Fate::Kept(node);
                children.push(self.child(one, node));
            }
        }
        self.finished.best.extend(held.take(room));
        children
    }

    fn parent(&self, one: &Continuation) -> &Live {
        &self.live[one.parent as usize]
    }

    fn grow(&self, step: &mut GroupStep, one: &Continuation) -> u32 {
        step.tree.push(self.parent(one).node, one.token, one.logprob)
    }

    fn child(&self, one: &Continuation, node: u32) -> Child {
        // The row is assigned once all groups are done.
        let live = Live { node, row: 0, score: one.score, gumbel: one.gumbel };
        Child { live, token: one.token, parent_row: self.parent(one).row }
    }

    fn note(&self, step: &mut GroupStep, chosen: &[Continuation], fates: &[Fate]) {
        let length = step.length as u32;
        if let Some(expansions) = &mut step.expansions {
            expansions.extend(chosen.iter().zip(fates).map(|(one, &fate)| Expansion {
                step: length,
                parent: self.parent(one).node,
                token: one.token,
                logprob: one.logprob,
                score: one.score,
                fate,
            }));
        }
    }

    /// Whether no live beam can still change the finished sequences, by the rule of
    /// `early_stopping`.
    fn is_over(&self, step: &GroupStep) -> bool {
        let Some(best) = self.live.first() else {
            return true;
        };
        if step.beam.is_stochastic() || !self.finished.is_full() {
            return false;
        }
        step.beam.stops_when_full()
            || step.beam.hope(best.score, step.length, step.limit) <= self.finished.worst()
    }
}

impl GroupStep<'_, '_> {
    /// Why a sequence ends with this token, if it does.
    fn ending(&mut self, parent: u32, token: u32) -> Option<Ending> {
        if self.ends.contains(&token) {
            return Some(Ending::Eos);
        }
        if let Some(stop) = &mut self.stop {
            let mut tokens = self.tree.tokens(parent);
            tokens.push(token);
            if stop(&tokens) {
                return Some(Ending::Stop);
            }
        }
        (self.length >= self.limit).then_some(Ending::Limit)
    }
}
