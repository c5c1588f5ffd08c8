//! Logits processors: they change single logits by what a row's sequence holds so far, before
//! temperature and truncation.
//!
//! This module defines their order, which is transformers' where it has one. Each line is a
//! parameter, its type, and the processor that it sets, which has a file, or a section of one, with
//! its formula, range and source. A parameter of other processors has a line beside theirs.
//!
//! Processors have no state: the same row and history give the same bits on every machine, whatever
//! came before. A ban sets a logit to -inf, also where it was NaN or +inf (a ban is the way to work
//! around a broken logit). Every other processor leaves logits that are not finite unchanged, for
//! the sampler to refuse or to skip, and clamps its results to the finite floats: only a ban makes
//! a logit infinite.

mod allowed;
mod bad_words;
mod bias;
mod dry;
mod history;
mod min_new_tokens;
mod no_repeat_ngram;
mod past;
mod penalties;
mod repeats;
mod rule;
mod sequences;
mod table;

pub use dry::DryParams;
pub use history::{History, SequenceHistory};
pub use past::ProcessorWorkspace;

use crate::error::{Error, Result};
use allowed::Allowed;
use bad_words::BadWords;
use bias::LogitBias;
use dry::Dry;
use min_new_tokens::{EOS, MinNewTokens};
use no_repeat_ngram::NoRepeatNgram;
use past::Past;
use penalties::{FrequencyPenalty, PenaltiesCountPrompt, PresencePenalty, RepetitionPenalty};
use rule::Processor;

table::order! {
    logit_bias: Vec<(Vec<u32>, f32)> = LogitBias,
    repetition_penalty: f64 = RepetitionPenalty,
    frequency_penalty: f64 = FrequencyPenalty,
    presence_penalty: f64 = PresencePenalty,
    penalties_count_prompt: bool = PenaltiesCountPrompt,
    dry: Option<DryParams> = Dry,
    no_repeat_ngram_size: i64 = NoRepeatNgram,
    bad_words: Vec<Vec<u32>> = BadWords,
    min_new_tokens: i64 = MinNewTokens,
    // Last, so that nothing revives what it bans.
    allowed: Option<Vec<u32>> = Allowed,
}

impl Processors {
    /// The same processors with these end-of-sequence tokens, which only a tokenizer knows.
    ///
    /// # Errors
    /// As [`Processors::new`], which has accepted everything else already.
    pub fn with_eos(&self, eos: &[u32]) -> Result<Self> {
        Self::new(ProcessorParams { eos: eos.to_vec(), ..self.params.clone() })
    }

    /// The parameters it was made from.
    #[must_use]
    pub fn params(&self) -> &ProcessorParams {
        &self.params
    }

    /// Checks what only the vocabulary and the tokenizer decide, before any work.
    ///
    /// # Errors
    /// [`Error::UnknownToken`], [`Error::NoEos`].
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        for &(name, token) in &self.largest {
            if token as usize >= vocabulary {
                return Err(Error::UnknownToken { name, token, size: vocabulary });
            }
        }
        self.check_each()
    }

    /// Changes a row of logits in place. Takes time linear in the history, and in the row where
    /// `allowed` is on. The history is not read unless [`Processors::needs_history`].
    ///
    /// # Errors
    /// [`Error::HistoryToken`], [`Error::Prompt`], and as [`Processors::check`]; the row is then
    /// untouched.
    pub fn apply(
        &self,
        row: &mut [f32],
        history: History<'_>,
        workspace: &mut ProcessorWorkspace,
    ) -> Result<()> {
        self.apply_unrestricted(row, history, workspace)?;
        self.restrict(row, workspace);
        Ok(())
    }

    /// [`Processors::apply`] without those that come after the caller's own processors.
    ///
    /// # Errors
    /// As [`Processors::apply`].
    pub(crate) fn apply_unrestricted(
        &self,
        row: &mut [f32],
        history: History<'_>,
        workspace: &mut ProcessorWorkspace,
    ) -> Result<()> {
        self.check(row.len())?;
        let generated = if self.needs_history() { history.generated(row.len())? } else { 0 };
        self.apply_each(false, row, &mut Past::new(history, generated, workspace));
        Ok(())
    }

    /// Applies the processors left out by [`Processors::apply_unrestricted`], to a row of a
    /// vocabulary that has been checked.
    pub(crate) fn restrict(&self, row: &mut [f32], workspace: &mut ProcessorWorkspace) {
        self.apply_each(true, row, &mut Past::new(History::default(), 0, workspace));
    }

    /// The error for a row that has no token left after these processors, and had some before: it
    /// names the processors that ban. For the caller that gets [`Error::NothingAllowed`] for the
    /// processed row.
    #[must_use]
    pub fn emptied(&self, row: usize) -> Error {
        let banning = self.banning();
        if banning.is_empty() {
            return Error::NothingAllowed { row };
        }
        Error::AllBanned { row, processors: banning.join(", ") }
    }
}

#[cfg(test)]
mod tests;
