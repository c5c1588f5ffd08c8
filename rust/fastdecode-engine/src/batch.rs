//! Rows under way: they join and leave between steps, and may be forked.

use crate::cache::Sequence;
use crate::error::{Error, Result};
use crate::model::{Model, Scratch, Wanted};
use std::sync::Arc;

/// The rows of one batch, with their cache.
pub struct Batch {
    model: Arc<Model>,
    rows: Vec<Sequence>,
    scratch: Scratch,
}

impl Batch {
    /// Without rows.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, rows: Vec::new(), scratch: Scratch::default() }
    }

    /// Rows under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows' caches.
    #[must_use]
    pub fn rows(&self) -> &[Sequence] {
        &self.rows
    }

    /// Adds rows behind those that are there: each prompt goes through the model once and becomes
    /// `repeats[i]` rows, which share its cache. Writes the new rows' logits, `vocab_size` each.
    ///
    /// # Errors
    /// For a prompt that is empty, too long, or has an unknown token; the batch is as before.
    ///
    /// # Panics
    /// Where `logits` has another size than the new rows'.
    pub fn join(
        &mut self,
        prompts: &[&[u32]],
        repeats: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        if repeats.len() != prompts.len() {
            let (got, rows) = (repeats.len(), prompts.len());
            return Err(Error::Length { name: "repeats", got, rows });
        }
        if let Some(row) = repeats.iter().position(|&n| n == 0) {
            return Err(Error::Repeats { row });
        }
        let size = self.model.config().vocab_size;
        assert_eq!(logits.len(), repeats.iter().sum::<usize>() * size);
        let mut fresh = vec![self.model.sequence(); prompts.len()];
        let first = &mut logits[..prompts.len() * size];
        self.model.forward(&mut fresh, prompts, Wanted::Last, &mut self.scratch, first)?;
        // Spread from the last row down: no prompt's rows begin before its first logits.
        let sources = repeats.iter().enumerate().flat_map(|(i, &n)| std::iter::repeat_n(i, n));
        let sources: Vec<usize> = sources.collect();
        for (to, &from) in sources.iter().enumerate().rev() {
            logits.copy_within(from * size..(from + 1) * size, to * size);
        }
        for (sequence, &count) in fresh.into_iter().zip(repeats) {
            self.rows.extend(std::iter::repeat_n(sequence, count));
        }
        Ok(())
    }

    /// Appends one token to each row; writes the logits, `vocab_size` floats a row.
    ///
    /// # Errors
    /// For another number of tokens than rows, an unknown token, a full context; the batch is as
    /// before.
    ///
    /// # Panics
    /// Where `logits` has another size.
    pub fn step(&mut self, tokens: &[u32], logits: &mut [f32]) -> Result<()> {
        let tokens: Vec<&[u32]> = tokens.chunks(1).collect();
        let scratch = &mut self.scratch;
        self.model.forward(&mut self.rows, &tokens, Wanted::Last, scratch, logits)
    }

    /// Goes on with these rows, in this order. A row may come several times: its copies share what
    /// there is of its cache.
    ///
    /// # Errors
    /// For a row that is not there; the batch is as before.
    pub fn keep(&mut self, rows: &[i64]) -> Result<()> {
        let kept = rows
            .iter()
            .enumerate()
            .map(|(index, &row)| {
                let found = usize::try_from(row).ok().and_then(|row| self.rows.get(row));
                found.cloned().ok_or(Error::Row { index, row, rows: self.rows.len() })
            })
            .collect::<Result<_>>()?;
        self.rows = kept;
        Ok(())
    }
}
