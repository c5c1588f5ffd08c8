//! Sequences that step together: they join and leave between steps, and may be forked.

use crate::cache::Sequence;
use crate::error::{Error, Result};
use crate::model::{Model, Wanted};
use crate::workspace::Workspace;
use fastdecode_simd::memory;
use std::sync::Arc;

/// The sequences of one batch, with their KV cache.
pub struct Batch {
    model: Arc<Model>,
    sequences: Vec<Sequence>,
    workspace: Workspace,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.model.idle().give(std::mem::take(&mut self.workspace));
    }
}

/// With at least this many tokens in common, prompts that join together have them computed once.
const COMMON: usize = 64;

/// The tokens with which all prompts begin.
fn common<'a>(prompts: &[&'a [u32]]) -> &'a [u32] {
    let Some((first, others)) = prompts.split_first() else { return &[] };
    let length = others.iter().fold(first.len(), |length, other| {
        first[..length].iter().zip(*other).take_while(|(a, b)| a == b).count()
    });
    &first[..length]
}

impl Batch {
    /// A batch without sequences.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        let workspace = model.idle().take();
        Self { model, sequences: Vec::new(), workspace }
    }

    /// The number of sequences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there are no sequences.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The sequences.
    #[must_use]
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Adds sequences after the present ones: each prompt goes through the model once and becomes
    /// `repeats[i]` sequences, which share its cache. Writes their next-token logits, `vocab_size` each.
    ///
    /// Tokens with which an earlier prompt began do not go through the model again, where
    /// [`Model::keep_prefixes`] has kept its cache.
    ///
    /// # Errors
    /// For a prompt that is empty, too long, or has an unknown token, and where the system refuses memory.
    /// The batch is then unchanged.
    ///
    /// # Panics
    /// If `logits` has another size.
    pub fn join(
        &mut self,
        prompts: &[&[u32]],
        repeats: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        if repeats.len() != prompts.len() {
            let (got, sequences) = (repeats.len(), prompts.len());
            return Err(Error::Length { name: "repeats", got, sequences });
        }
        if let Some(index) = repeats.iter().position(|&n| n == 0) {
            return Err(Error::Repeats { index });
        }
        let size = self.model.config().vocab_size();
        let rows: usize = repeats.iter().sum();
        assert_eq!(logits.len(), rows * size);
        memory::reserve(&mut self.sequences, rows)?;
        let first = &mut logits[..prompts.len() * size];
        let fresh = match self.prefill(prompts, first) {
            // What is kept for later must not stand in the way of what is wanted now.
            Err(Error::Memory(_)) if self.model.prefixes().clear() => {
                self.prefill(prompts, first)?
            }
            fresh => fresh?,
        };
        // Spread from the last one down: no copy of a prompt's logits lies before the original.
        let mut to = rows;
        for (from, &count) in repeats.iter().enumerate().rev() {
            for _ in 0..count {
                to -= 1;
                logits.copy_within(from * size..(from + 1) * size, to * size);
            }
        }
        let before = self.sequences.len();
        let added = fresh.iter().zip(repeats).try_for_each(|(sequence, &count)| {
            (0..count).try_for_each(|_| {
                self.sequences.push(sequence.fork()?);
                Ok(())
            })
        });
        if added.is_err() {
            self.sequences.truncate(before);
        }
        added
    }

    /// A sequence for each prompt, and its next-token logits.
    fn prefill(&mut self, prompts: &[&[u32]], logits: &mut [f32]) -> Result<Vec<Sequence>> {
        let keeps = self.model.prefixes().limit() > 0;
        if keeps && prompts.len() > 1 {
            let common = common(prompts);
            let known = self.model.prefixes().reach(common);
            if common.len() >= COMMON.max(known + 1) {
                self.prefill(&[common], &mut logits[..self.model.config().vocab_size()])?;
            }
        }
        let mut fresh = memory::filled(self.model.sequence(), prompts.len())?;
        let mut rest = memory::with_room(prompts.len())?;
        for (sequence, prompt) in fresh.iter_mut().zip(prompts) {
            if keeps && let Some(start) = self.model.prefixes().start_of(prompt)? {
                *sequence = start;
            }
            rest.push(&prompt[sequence.len()..]);
        }
        self.model.forward(&mut fresh, &rest, Wanted::Last, &mut self.workspace, logits)?;
        if keeps {
            for (sequence, prompt) in fresh.iter().zip(prompts) {
                // Where memory is refused, the prompt is not kept.
                let _ = self.model.prefixes().keep(prompt, sequence);
            }
        }
        Ok(fresh)
    }

    /// Appends one token to each sequence, and writes the next-token logits, `vocab_size` floats each.
    ///
    /// # Errors
    /// For another number of tokens than sequences, an unknown token, or a full context. The batch is then
    /// unchanged.
    ///
    /// # Panics
    /// If `logits` has another size.
    pub fn step(&mut self, tokens: &[u32], logits: &mut [f32]) -> Result<()> {
        let tokens = memory::collect(tokens.chunks(1))?;
        let workspace = &mut self.workspace;
        self.model.forward(&mut self.sequences, &tokens, Wanted::Last, workspace, logits)
    }

    /// Cuts sequence i back to its first `lengths[i]` tokens. Its next logits have the same bits as
    /// after a prompt of these tokens. Sequences that share its cache keep what they share, and memory that
    /// none holds is given back.
    ///
    /// Layers with a window hold what the next token attends to and the 32 positions before that. So a sequence
    /// can be cut back to 32 tokens below the greatest length that it has had, and further where
    /// [`Sequence::shortest`] says so.
    ///
    /// # Errors
    /// For another number of lengths than sequences, one that is negative or greater than that of its sequence,
    /// and one that needs positions which a layer with a window has given back. The batch is then unchanged.
    pub fn truncate(&mut self, lengths: &[i64]) -> Result<()> {
        if lengths.len() != self.len() {
            let (got, sequences) = (lengths.len(), self.len());
            return Err(Error::Length { name: "lengths", got, sequences });
        }
        for (index, (sequence, &length)) in self.sequences.iter().zip(lengths).enumerate() {
            sequence.check_truncate(|| format!("lengths[{index}]"), length.into())?;
        }
        for (sequence, &length) in self.sequences.iter_mut().zip(lengths) {
            sequence.cut(length as usize);
        }
        Ok(())
    }

    /// Continues with the sequences at these indices, in this order. An index may be given several times:
    /// the copies share the cache of their common tokens.
    ///
    /// # Errors
    /// For an index out of range, and where the system refuses memory. The batch is then unchanged.
    pub fn keep(&mut self, rows: &[i64]) -> Result<()> {
        let mut kept = memory::with_room(rows.len())?;
        for (index, &row) in rows.iter().enumerate() {
            let found = usize::try_from(row).ok().and_then(|row| self.sequences.get(row));
            let found = found.ok_or(Error::Row { index, row, sequences: self.sequences.len() })?;
            kept.push(found.fork()?);
        }
        self.sequences = kept;
        Ok(())
    }
}
