//! The text so far, as logits processors see it: what several of them need is computed once a row.

use rustc_hash::FxHashMap;

use super::history::{Count, Counts, History};
use super::repeats::Repeats;

/// Memory that is reused between rows; one for each thread. It grows with the history, not with the
/// vocabulary.
#[derive(Debug, Default)]
pub struct ProcessorWorkspace {
    /// Occurrences of the tokens that the history's own counts leave out.
    counts: FxHashMap<u32, Count>,
    repeats: Repeats,
    tally: Tally,
}

/// A map from tokens to numbers.
pub(super) type Tally = FxHashMap<u32, u32>;

/// The history of the current row.
pub(super) struct Past<'a> {
    history: History<'a>,
    generated: usize,
    workspace: &'a mut ProcessorWorkspace,
    counted: bool,
    measured: bool,
}

impl<'a> Past<'a> {
    /// A history that has been checked, with its number of generated tokens.
    pub fn new(
        history: History<'a>,
        generated: usize,
        workspace: &'a mut ProcessorWorkspace,
    ) -> Self {
        Self { history, generated, workspace, counted: false, measured: false }
    }

    /// The prompt's tokens and the generated ones.
    pub fn tokens(&self) -> &'a [u32] {
        self.history.tokens()
    }

    /// How many tokens have been generated.
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Each token that occurs, once, with how often it does, in any order.
    pub fn for_each_count(&mut self, mut visit: impl FnMut(u32, Count)) {
        let (known, rest) = self.history.counted();
        let counts = &mut self.workspace.counts;
        if !self.counted {
            counts.clear();
            let counted = known.map_or(0, Counts::len);
            for (place, &token) in (counted..).zip(rest) {
                let count = counts.entry(token).or_default();
                *count = *count + Count::one(place >= self.history.prompt());
            }
            self.counted = true;
        }
        if let Some(known) = known {
            for (token, count) in known.iter() {
                if !counts.contains_key(&token) {
                    visit(token, count);
                }
            }
        }
        for (&token, &count) in counts.iter() {
            visit(token, count + known.map_or_else(Count::default, |known| known.of(token)));
        }
    }

    /// Where the end of the text has occurred before, and an empty tally to use with it.
    pub fn repeats(&mut self) -> (&Repeats, &mut Tally) {
        let ProcessorWorkspace { repeats, tally, .. } = &mut *self.workspace;
        if !self.measured {
            repeats.measure(self.history.tokens());
            self.measured = true;
        }
        tally.clear();
        (repeats, tally)
    }
}
