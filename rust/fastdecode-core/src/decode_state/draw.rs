//! The parts of a step that change nothing: the processors, and the draw.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use super::choice::{Choice, Chooser, Noting};
use super::sequence::Sequence;
use super::{DecodeState, Version};
use crate::error::{Error, Result};
use crate::processors::History;
use crate::row::logits::Logits;
use crate::truncation::DrawContext;
use fastdecode_simd::memory;

/// The rows that are drawn from.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// As the model gave them; the processors are applied in the draw.
    Raw(&'a Logits<'a>),
    /// As [`DecodeState::process`] returned them, with any changes by the caller. Of the processors
    /// only the restriction to allowed tokens is applied to them.
    Processed {
        /// The rows.
        rows: &'a Logits<'a>,
        /// The model's rows, which raw log-probabilities and alternatives are taken from. By default
        /// `rows`.
        raw: Option<&'a Logits<'a>>,
    },
}

/// The tokens that [`DecodeState::draw`] has drawn, not yet committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub(super) version: Version,
    choices: Vec<Choice>,
    /// Where each sequence's choices begin; one entry more than sequences.
    starts: Vec<usize>,
    committable: Vec<usize>,
}

impl Drawn {
    /// One for each row of logits.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Those of one sequence.
    ///
    /// # Panics
    /// If there is no such sequence.
    #[must_use]
    pub fn of(&self, sequence: usize) -> &[Choice] {
        &self.choices[self.starts[sequence]..self.starts[sequence + 1]]
    }

    /// How many tokens of each sequence can be committed: up to the first that differs from what
    /// was proposed in its place, or that ends the sequence. At least 1.
    #[must_use]
    pub fn committable(&self) -> &[usize] {
        &self.committable
    }
}

/// Which position of which sequence each row of logits is for.
struct Layout<'a> {
    starts: Vec<usize>,
    /// Sequence, and how many proposed tokens come before.
    places: Vec<(usize, usize)>,
    /// A sequence's history with the proposed tokens, where processors look at it.
    histories: Vec<Option<Cow<'a, [u32]>>>,
    proposed: &'a [Vec<u32>],
}

impl<'a> Layout<'a> {
    fn new(sequences: &'a [Sequence], proposed: &'a [Vec<u32>], rows: &Logits) -> Result<Self> {
        if !proposed.is_empty() && proposed.len() != sequences.len() {
            let (got, sequences) = (proposed.len(), sequences.len());
            return Err(Error::PerSequence { name: "proposed", got, sequences });
        }
        let size = rows.vocabulary;
        if let Some(&token) = proposed.iter().flatten().find(|&&token| token as usize >= size) {
            return Err(Error::UnknownToken { name: "proposed", token, size });
        }
        let mut starts = memory::with_room(sequences.len() + 1)?;
        starts.push(0);
        let more: usize = proposed.iter().map(Vec::len).sum();
        let mut places = memory::with_room(sequences.len() + more)?;
        let mut histories = memory::with_room(sequences.len())?;
        for (index, sequence) in sequences.iter().enumerate() {
            if sequence.reason().is_some() {
                return Err(Error::Ended { sequence: index });
            }
            let tokens = proposed.get(index).map_or(&[][..], Vec::as_slice);
            places.extend((0..=tokens.len()).map(|ahead| (index, ahead)));
            starts.push(places.len());
            let looks = sequence.pipeline.processors().needs_history();
            histories.push(looks.then(|| match tokens {
                [] => Cow::Borrowed(sequence.history.tokens()),
                more => Cow::Owned([sequence.history.tokens(), more].concat()),
            }));
        }
        if rows.rows != places.len() {
            return Err(Error::LogitRows { got: rows.rows, rows: places.len() });
        }
        Ok(Self { starts, places, histories, proposed })
    }

    fn proposed(&self, sequence: usize) -> &[u32] {
        self.proposed.get(sequence).map_or(&[], Vec::as_slice)
    }
}

impl DecodeState {
    /// The rows after all processors except the restriction to allowed tokens, one after the
    /// other. The restriction is part of the draw, so that no change by the caller undoes it.
    ///
    /// # Errors
    /// As [`DecodeState::draw`], except that rows are not checked for NaN, which a processor may
    /// still ban.
    pub fn process(&self, logits: &Logits, proposed: &[Vec<u32>]) -> Result<Vec<f32>> {
        let layout = Layout::new(&self.sequences, proposed, logits)?;
        if logits.vocabulary == 0 {
            return Err(Error::EmptyVocabulary);
        }
        let mut all = memory::filled(0.0, logits.rows.saturating_mul(logits.vocabulary))?;
        // Each row is written by the thread that has read it.
        let slots = memory::collect(all.chunks_mut(logits.vocabulary).map(Mutex::new))?;
        logits.map(|index, row, workspace| {
            let (sequence, ahead) = layout.places[index];
            let mut slot = slots[index].lock().unwrap_or_else(PoisonError::into_inner);
            slot.copy_from_slice(row);
            let history = self.history(&layout, sequence, ahead);
            let processors = self.sequences[sequence].pipeline.processors();
            let applied =
                processors.apply_unrestricted(&mut slot, history, &mut workspace.processors);
            applied.map_err(|error| error.in_prompt(sequence))
        })?;
        drop(slots);
        Ok(all)
    }

    /// Draws a token at each position: one for each sequence, from the row of logits after its
    /// last token, and one more for each token that is `proposed` for it, from the row after that
    /// token. Without proposals, `proposed` is empty. Nothing changes until
    /// [`DecodeState::commit`].
    ///
    /// # Errors
    /// Another number of rows than positions, sequences that have ended, rows that are no rows of
    /// logits, and what the processors refuse.
    pub fn draw(&self, rows: Rows, proposed: &[Vec<u32>], noting: Noting) -> Result<Drawn> {
        let (logits, raw) = match rows {
            Rows::Raw(logits) => (logits, None),
            Rows::Processed { rows, raw } => (rows, raw),
        };
        let layout = Layout::new(&self.sequences, proposed, logits)?;
        if let Some(raw) = raw
            && (raw.rows, raw.vocabulary) != (logits.rows, logits.vocabulary)
        {
            let (got, size) = (raw.vocabulary, logits.vocabulary);
            return Err(if raw.rows == logits.rows {
                Error::OtherVocabulary { got, size }
            } else {
                Error::LogitRows { got: raw.rows, rows: logits.rows }
            });
        }
        // Mirostat's bound at a position follows from the draw before it, so that the positions of
        // such a sequence take a round each.
        let chained = |sequence: usize| {
            self.sequences[sequence].pipeline.sampler().params().mirostat.is_some()
        };
        let length = |sequence: usize| layout.proposed(sequence).len();
        let rounds = 1 + (0..self.len()).filter(|&i| chained(i)).map(length).max().unwrap_or(0);
        let mut mus = memory::collect(self.sequences.iter().map(|sequence| sequence.mu))?;
        let mut choices = memory::filled(Choice::default(), logits.rows)?;
        for round in 0..rounds {
            let drawn = logits.map(|index, row, workspace| {
                let (sequence, ahead) = layout.places[index];
                let due = if chained(sequence) { ahead == round } else { round == 0 };
                if !due {
                    return Ok(None);
                }
                let mu = mus[sequence];
                let context = DrawContext { key: self.sequences[sequence].key_after(ahead), mu };
                let pipeline = &*self.sequences[sequence].pipeline;
                let chooser = Chooser { pipeline, context, noting };
                let mut widened = Vec::new();
                let choice = match rows {
                    Rows::Raw(_) => {
                        let history = self.history(&layout, sequence, ahead);
                        chooser.on_raw(row, history, workspace)
                    }
                    Rows::Processed { raw, .. } => {
                        let raw = raw.map(|raw| raw.row(index, &mut widened));
                        chooser.on_processed(row, raw, workspace)
                    }
                };
                choice.map(Some).map_err(|error| error.in_prompt(sequence))
            })?;
            for (index, choice) in drawn.into_iter().enumerate() {
                if let Some(choice) = choice {
                    mus[layout.places[index].0] = choice.mu;
                    choices[index] = choice;
                }
            }
        }
        let committable = self.sequences.iter().enumerate().map(|(index, sequence)| {
            let own = &choices[layout.starts[index]..layout.starts[index + 1]];
            sequence.committable(own.iter().map(|choice| choice.draw.token), layout.proposed(index))
        });
        let committable = memory::collect(committable)?;
        Ok(Drawn { version: self.version, choices, starts: layout.starts, committable })
    }

    /// What the processors see at a position.
    fn history<'a>(&'a self, layout: &'a Layout, sequence: usize, ahead: usize) -> History<'a> {
        let kept = &self.sequences[sequence].history;
        match &layout.histories[sequence] {
            Some(tokens) => kept.continued(&tokens[..kept.tokens().len() + ahead]),
            None => kept.view(),
        }
    }
}
