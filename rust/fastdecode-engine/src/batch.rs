//! Sequences that step together: they join and leave between steps, and may be forked.

use crate::cache::Sequence;
use crate::error::{Error, Result};
use crate::model::{Model, Wanted};
use crate::workspace::Workspace;
use std::sync::Arc;

/// The sequences of one batch, with their KV cache.
pub struct Batch {
    model: Arc<Model>,
    sequences: Vec<Sequence>,
    workspace: Workspace,
}

impl Batch {
    /// A batch without sequences.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, sequences: Vec::new(), workspace: Workspace::default() }
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
    /// # Errors
    /// For a prompt that is empty, too long, or has an unknown token. The batch is then unchanged.
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
        assert_eq!(logits.len(), repeats.iter().sum::<usize>() * size);
        let mut fresh = vec![self.model.sequence(); prompts.len()];
        let first = &mut logits[..prompts.len() * size];
        self.model.forward(&mut fresh, prompts, Wanted::Last, &mut self.workspace, first)?;
        // Spread from the last one down: no copy of a prompt's logits lies before the original.
        let sources = repeats.iter().enumerate().flat_map(|(i, &n)| std::iter::repeat_n(i, n));
        let sources: Vec<usize> = sources.collect();
        for (to, &from) in sources.iter().enumerate().rev() {
            logits.copy_within(from * size..(from + 1) * size, to * size);
        }
        for (sequence, &count) in fresh.into_iter().zip(repeats) {
            self.sequences.extend(std::iter::repeat_n(sequence, count));
        }
        Ok(())
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
        let tokens: Vec<&[u32]> = tokens.chunks(1).collect();
        let workspace = &mut self.workspace;
        self.model.forward(&mut self.sequences, &tokens, Wanted::Last, workspace, logits)
    }

    /// Continues with the sequences at these indices, in this order. An index may be given several times:
    /// the copies share the cache of their common tokens.
    ///
    /// # Errors
    /// For an index out of range. The batch is then unchanged.
    pub fn keep(&mut self, rows: &[i64]) -> Result<()> {
        let kept = rows
            .iter()
            .enumerate()
            .map(|(index, &row)| {
                let found = usize::try_from(row).ok().and_then(|row| self.sequences.get(row));
                found.cloned().ok_or(Error::Row { index, row, sequences: self.sequences.len() })
            })
            .collect::<Result<_>>()?;
        self.sequences = kept;
        Ok(())
    }
}
