//! Beam search for all prompts of a batch: rows of raw logits in, next tokens and parents out.
//!
//! The rules are those of transformers 5 (its `_beam_search`), prompt by prompt: a prompt's search
//! neither waits for the other prompts of the batch nor depends on them. Scores are sums of float64
//! with the core's own logarithm, so a search repeats bit by bit on every machine that is given the
//! same logits.
//!
//! One difference is deliberate: where there are fewer continuations than beams (a tiny vocabulary, or
//! tight constraints), transformers adds copies with a score of -1e9; here the search continues
//! with fewer beams.

mod continuation;
mod finished;
mod group;
mod gumbel;
mod listing;
mod open;
mod params;
mod search;
mod trace;
mod tree;

pub use finished::Ending;
pub use group::StopRule;
pub use listing::Listing;
pub use params::{Beam, BeamParams, Choice, EarlyStopping, MOST_BEAMS};
pub use search::{Outcome, Prompt};
pub use trace::{Expansion, Fate};
pub use tree::{Node, Tree};

use fastdecode_simd::{Level, memory};
use open::{Reader, Row};
use search::Search;

use crate::error::{Error, Result, Subject};
use crate::processors::History;
use crate::row::logits::Logits;

/// The tokens that each row of logits is restricted to, if any.
pub type Allowed = [Option<Vec<u32>>];

/// Asks the caller whether its stop rule ends a prompt's sequence of new tokens here.
pub type BatchStopRule<'a> = dyn FnMut(u32, &[u32]) -> bool + 'a;

/// The beams of a batch of prompts. Its rows are the live beams: prompt after prompt, and within a
/// prompt in the order of their scores.
#[derive(Debug, Clone)]
pub struct BeamState {
    beam: Beam,
    ends: Vec<u32>,
    seed: u64,
    level: Level,
    searches: Vec<Search>,
}

/// Rows of logits, read but not yet acted on.
#[derive(Debug, Clone)]
pub struct Opened {
    rows: Vec<Row>,
}

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The token that each new row begins with.
    pub tokens: Vec<u32>,
    /// The row of the logits just given that each new row continues.
    pub parents: Vec<u32>,
    /// The prompts that ended at this step.
    pub done: Vec<u32>,
}

/// A live beam, as constraints see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRow {
    /// Its prompt.
    pub prompt: u32,
    /// Its new tokens.
    pub tokens: Vec<u32>,
}

/// Bytes that a step takes for each candidate that it compares, at most.
const EACH_CANDIDATE: usize = 256;

impl BeamState {
    /// Begins a search for each prompt, with one row each: the logits that follow the prompt.
    ///
    /// # Errors
    /// [`Error::NoRoom`] for a prompt whose limit is 0.
    pub fn new(
        beam: Beam,
        prompts: Vec<Prompt>,
        ends: Vec<u32>,
        seed: u64,
        trace: bool,
    ) -> Result<Self> {
        if let Some(index) = prompts.iter().position(|prompt| prompt.limit == 0) {
            return Err(Error::NoRoom(index));
        }
        let mut searches = memory::with_room(prompts.len())?;
        for prompt in prompts {
            searches.push(Search::new(&beam, prompt, seed, trace)?);
        }
        let beam = beam.with_eos(&ends)?;
        Ok(Self { beam, ends, seed, level: Level::detect(), searches })
    }

    /// How many rows of logits the next step takes: the live beams. 0 once every prompt is done.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.searches.iter().map(|search| search.rows().count()).sum()
    }

    /// How many prompts there are.
    #[must_use]
    pub fn prompts(&self) -> usize {
        self.searches.len()
    }

    /// The live beams, one for each row.
    #[must_use]
    pub fn live(&self) -> Vec<LiveRow> {
        let rows = (0..).zip(&self.searches).flat_map(|(prompt, search)| {
            search.rows().map(move |live| LiveRow { prompt, tokens: search.tree.tokens(live.node) })
        });
        rows.collect()
    }

    /// Reads the logits of the live beams, in parallel; nothing changes yet.
    ///
    /// # Errors
    /// A wrong number of rows, a row that is not valid logits, or a token outside the vocabulary.
    pub fn open(&self, logits: &Logits, allowed: Option<&Allowed>) -> Result<Opened> {
        let rows = self.rows();
        if logits.rows != rows {
            return Err(Error::BeamRows { got: logits.rows, rows });
        }
        if let Some(allowed) = allowed
            && allowed.len() != rows
        {
            return Err(Error::Length { name: "allowed", got: allowed.len(), rows });
        }
        self.check_tokens(logits.vocabulary)?;
        let histories = self.histories()?;
        // A diversity penalty may push down as many tokens as earlier groups have beams.
        let penalised = if self.beam.groups > 1 { self.beam.num_beams } else { 0 };
        let k = self.beam.candidates(self.ends.len()) + penalised;
        let reader = Reader { level: self.level, beam: &self.beam, k };
        let read = |index: usize, row: &[f32], workspace: &mut _| {
            let history = histories
                .get(index)
                .map_or(History::default(), |(tokens, prompt)| History::new(tokens, *prompt));
            let allowed = allowed.and_then(|allowed| allowed[index].as_deref());
            reader.read(row, history, allowed, workspace)
        };
        let read = logits.map(read);
        Ok(Opened { rows: read.map_err(|error| self.in_prompt(error))? })
    }

    /// Advances every live beam by a token. `stop` may end sequences by the caller's own rule: it is
    /// called for each candidate, with the prompt and all new tokens.
    ///
    /// # Errors
    /// [`Error::DeadEnd`] where the constraints leave a prompt no continuation at all.
    pub fn advance(
        &mut self,
        mut opened: Opened,
        mut stop: Option<&mut BatchStopRule>,
    ) -> Result<Step> {
        // Before anything changes: what the search grows by, in many pieces, follows from the candidates.
        let wanted = self.beam.candidates(self.ends.len());
        let candidates = opened.rows.iter().map(|row| row.candidates(wanted)).sum::<usize>();
        let nodes = self.searches.iter().map(|search| search.tree.count()).sum::<usize>();
        memory::probe((candidates + nodes).saturating_mul(EACH_CANDIDATE))?;
        let mut step = Step::default();
        let mut first = 0;
        for (prompt, search) in (0..).zip(&mut self.searches) {
            let count = search.rows().count();
            if count == 0 {
                continue;
            }
            let rows = &mut opened.rows[first..first + count];
            let mut own = stop.as_mut().map(|stop| |tokens: &[u32]| stop(prompt, tokens));
            let own = own.as_mut().map(|own| own as &mut StopRule);
            for child in search.advance(&self.beam, &self.ends, self.seed, rows, own) {
                step.tokens.push(child.token);
                step.parents.push(first as u32 + child.parent_row);
            }
            first += count;
            if search.is_done() {
                if !search.has_finished() {
                    let tokens = search.length - 1;
                    return Err(Error::DeadEnd { prompt: search.prompt.index, tokens });
                }
                step.done.push(prompt);
            }
        }
        Ok(step)
    }

    /// The sequences of a prompt, best first: `num_return_sequences` of them, or all if there are
    /// fewer.
    ///
    /// # Errors
    /// [`Error::Memory`].
    ///
    /// # Panics
    /// If there is no such prompt.
    pub fn outcomes(&self, prompt: usize) -> Result<Vec<Outcome>> {
        self.searches[prompt].outcomes(&self.beam, self.beam.returned)
    }

    /// The new tokens that a prompt's best sequence is sure to begin with, and the log-probability
    /// of each under the model.
    ///
    /// # Panics
    /// If there is no such prompt.
    #[must_use]
    pub fn settled(&self, prompt: usize) -> (Vec<u32>, Vec<f64>) {
        let search = &self.searches[prompt];
        let node = search.settled(&self.beam);
        (search.tree.tokens(node), search.tree.logprobs(node))
    }

    /// Every candidate that a prompt's search compared; empty unless it keeps a trace.
    ///
    /// # Panics
    /// If there is no such prompt.
    #[must_use]
    pub fn expansions(&self, prompt: usize) -> &[Expansion] {
        self.searches[prompt].expansions.as_deref().unwrap_or_default()
    }

    /// A prompt's histories as a tree.
    ///
    /// # Panics
    /// If there is no such prompt.
    #[must_use]
    pub fn tree(&self, prompt: usize) -> &Tree {
        &self.searches[prompt].tree
    }

    fn check_tokens(&self, size: usize) -> Result<()> {
        if let Some(&token) = self.ends.iter().find(|&&token| token as usize >= size && size > 0) {
            return Err(Error::UnknownToken { name: "ends", token, size });
        }
        Ok(())
    }

    /// An error about a live beam's history, as one about its prompt.
    fn in_prompt(&self, error: Error) -> Error {
        let Some(Subject::History(row)) = error.subject() else { return error };
        let prompts = self
            .searches
            .iter()
            .flat_map(|search| std::iter::repeat_n(search.prompt.index, search.rows().count()));
        match prompts.into_iter().nth(row) {
            Some(prompt) => error.in_prompt(prompt),
            None => error,
        }
    }

    /// Each row's tokens and how many are its prompt's, where the processors need them.
    fn histories(&self) -> Result<Vec<(Vec<u32>, usize)>> {
        if !self.beam.processors().needs_history() {
            return Ok(Vec::new());
        }
        let mut histories = memory::with_room(self.rows())?;
        for search in &self.searches {
            let prompt = &search.prompt.ids;
            for live in search.rows() {
                let mut history = memory::with_room(prompt.len() + search.length)?;
                history.extend_from_slice(prompt);
                history.extend(search.tree.tokens(live.node));
                histories.push((history, prompt.len()));
            }
        }
        Ok(histories)
    }
}
