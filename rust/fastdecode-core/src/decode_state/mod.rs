//! The decode state: the sequences that step together, each with everything that its next token
//! depends on besides the logits. The sibling of [`BeamState`](crate::BeamState).
//!
//! [`DecodeState::step`] takes one row of logits for each sequence and appends one token to each.
//! Its parts can be called separately: [`DecodeState::process`] applies the logits processors, so
//! that a grammar or a function of the caller can change the rows after them; [`DecodeState::draw`]
//! draws and changes nothing; [`DecodeState::commit`] appends what was drawn. For speculative
//! decoding, a draw takes one more row for each token that is proposed for a sequence, and a prefix
//! of the tokens drawn is committed: the tokens that single steps would have drawn.
//!
//! Strategy, seed, stream, sample, position, history, mirostat's state, limit and end tokens belong
//! to a sequence, so sequences can join, leave and fork at any time, and a token depends on its own
//! sequence alone. After an error the state is unchanged, and the step can be repeated.

mod choice;
mod draw;
mod sequence;

use std::sync::atomic::{AtomicU64, Ordering};

pub use choice::{Candidate, Choice, Noted, Noting};
pub use draw::{Drawn, Rows};
pub use sequence::{FinishReason, Limit, Sequence, SequenceParams};

use crate::error::{Error, Result};
use crate::row::logits::Logits;
use fastdecode_simd::memory;

/// The sequences that step together. Row i of a step's logits is sequence i's.
#[derive(Debug, Clone)]
pub struct DecodeState {
    sequences: Vec<Sequence>,
    version: Version,
}

/// Identifies the contents of a state: every change, of any state, makes a new one. A clone shares
/// it until one of the two changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version(u64);

impl Version {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for DecodeState {
    fn default() -> Self {
        Self::new()
    }
}

impl DecodeState {
    /// A state without sequences.
    #[must_use]
    pub fn new() -> Self {
        Self { sequences: Vec::new(), version: Version::new() }
    }

    /// How many sequences there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The sequences, in the order of their rows.
    #[must_use]
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Adds sequences after those in progress.
    pub fn join(&mut self, sequences: impl IntoIterator<Item = Sequence>) {
        self.sequences.extend(sequences);
        self.version = Version::new();
    }

    /// Moves the sequences of `other` after those in progress.
    pub fn append(&mut self, other: &mut Self) {
        self.join(other.sequences.drain(..));
        other.version = Version::new();
    }

    /// Keeps these sequences, in this order. One that is named several times is forked; the copies
    /// have the same key, so the same logits give them the same tokens.
    ///
    /// # Errors
    /// [`Error::NoSequence`], [`Error::Memory`].
    pub fn keep(&mut self, rows: &[usize]) -> Result<()> {
        let mut uses = memory::filled(0u32, self.len())?;
        for &row in rows {
            *uses.get_mut(row).ok_or(Error::NoSequence { row, sequences: self.len() })? += 1;
        }
        let copies = rows.len().saturating_sub(self.len());
        let longest = self.sequences.iter().map(|one| one.history().tokens().len()).max();
        memory::probe(copies.saturating_mul(longest.unwrap_or(0) * size_of::<u32>()))?;
        let mut before = memory::with_room(self.len())?;
        memory::reserve(&mut self.sequences, copies)?;
        before.extend(self.sequences.drain(..).map(Some));
        self.sequences.extend(rows.iter().filter_map(|&row| {
            uses[row] -= 1;
            if uses[row] == 0 { before[row].take() } else { before[row].clone() }
        }));
        self.version = Version::new();
        Ok(())
    }

    /// Adds a copy of sequence `row` that continues as another sample of its prompt.
    ///
    /// # Errors
    /// [`Error::NoSequence`].
    pub fn fork(&mut self, row: usize, sample: u32) -> Result<()> {
        let of = self.sequences.get(row);
        let of = of.ok_or(Error::NoSequence { row, sequences: self.len() })?;
        self.join([of.as_sample(sample)]);
        Ok(())
    }

    /// Draws a token for each sequence, from one row of logits each, and appends it:
    /// [`DecodeState::draw`] followed by [`DecodeState::commit`].
    ///
    /// # Errors
    /// As [`DecodeState::draw`].
    pub fn step(&mut self, logits: &Logits, noting: Noting) -> Result<Drawn> {
        let drawn = self.draw(Rows::Raw(logits), &[], noting)?;
        self.commit(&drawn, None)?;
        Ok(drawn)
    }

    /// Appends to each sequence the first `counts[i]` of the tokens that were drawn for it; None
    /// appends as many as [`Drawn::committable`] says. Why a sequence ends with them is in
    /// [`Sequence::reason`].
    ///
    /// # Errors
    /// [`Error::StaleDraw`] where the state has changed since the draw, [`Error::PerSequence`], and
    /// [`Error::NotCommittable`] for a count above [`Drawn::committable`].
    pub fn commit(&mut self, drawn: &Drawn, counts: Option<&[usize]>) -> Result<()> {
        if drawn.version != self.version {
            return Err(Error::StaleDraw);
        }
        let most = drawn.committable();
        let counts = counts.unwrap_or(most);
        if counts.len() != self.len() {
            let got = counts.len();
            return Err(Error::PerSequence { name: "counts", got, sequences: self.len() });
        }
        for (sequence, (&count, &most)) in counts.iter().zip(most).enumerate() {
            if count > most {
                return Err(Error::NotCommittable { sequence, count, most });
            }
        }
        for (row, (sequence, &count)) in self.sequences.iter_mut().zip(counts).enumerate() {
            for choice in &drawn.of(row)[..count] {
                sequence.push(choice.draw.token, choice.mu);
            }
        }
        self.version = Version::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
