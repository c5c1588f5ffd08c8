//! The caches of earlier prompts, kept for prompts that begin alike.

use super::sequence::Sequence;
use crate::error::Result;
use fastdecode_simd::memory;

/// The caches of the prompts used last.
///
/// A token's keys and values depend on the tokens up to it alone, to the last bit, so a prompt that begins
/// with the tokens of another one can start from a fork of its cache.
#[derive(Default)]
pub(crate) struct Prefixes {
    /// The most bytes that it keeps.
    limit: usize,
    /// From the one used longest ago to the one used last.
    kept: Vec<Kept>,
}

struct Kept {
    tokens: Vec<u32>,
    sequence: Sequence,
}

/// The fewest tokens that are taken from another prompt. Copying the chunk at which the two diverge costs
/// more than a few tokens of a prefill.
const FEWEST: usize = 16;

impl Prefixes {
    /// Keeps at most this number of bytes from now on.
    pub fn limit_to(&mut self, bytes: usize) {
        self.limit = bytes;
        self.shrink();
    }

    /// The most bytes that it keeps.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of the caches that it keeps. What several share counts for each of them.
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(Kept::bytes).sum()
    }

    /// Gives everything back, and says whether there was anything.
    pub fn clear(&mut self) -> bool {
        let any = !self.kept.is_empty();
        self.kept.clear();
        any
    }

    /// The most of these tokens that the prompts begin with whose caches are kept.
    pub fn reach(&self, tokens: &[u32]) -> usize {
        self.kept.iter().map(|kept| kept.reach(tokens)).max().unwrap_or(0)
    }

    /// A sequence with as many of the first tokens as are known, and not all: the logits after the last one
    /// have to be computed. `None` if too few are known.
    ///
    /// # Errors
    /// If the system refuses memory.
    pub fn start_of(&mut self, tokens: &[u32]) -> Result<Option<Sequence>> {
        let most = tokens.len().saturating_sub(1);
        let found = self.kept.iter().enumerate().map(|(i, kept)| (kept.reach(tokens).min(most), i));
        // Of those that are equally good, the one used last.
        let found = found.filter(|&(length, i)| self.kept[i].sequence.shortest() <= length).max();
        let Some((length, i)) = found.filter(|&(length, _)| length >= FEWEST) else {
            return Ok(None);
        };
        let mut sequence = self.kept[i].sequence.fork()?;
        sequence.cut(length);
        self.kept[i..].rotate_left(1);
        Ok(Some(sequence))
    }

    /// Keeps the cache of these tokens, and gives back what it makes superfluous or what is too much.
    ///
    /// # Errors
    /// If the system refuses memory.
    pub fn keep(&mut self, tokens: &[u32], sequence: &Sequence) -> Result<()> {
        if tokens.len() < FEWEST || self.limit == 0 {
            return Ok(());
        }
        let mut copy = memory::with_room(tokens.len())?;
        copy.extend_from_slice(tokens);
        let new = Kept { tokens: copy, sequence: sequence.fork()? };
        if new.bytes() > self.limit {
            return Ok(());
        }
        let shortest = new.sequence.shortest();
        self.kept.retain(|old| !(tokens.starts_with(&old.tokens) && shortest <= old.tokens.len()));
        memory::reserve(&mut self.kept, 1)?;
        self.kept.push(new);
        self.shrink();
        Ok(())
    }

    fn shrink(&mut self) {
        let (mut bytes, mut superfluous) = (self.bytes(), 0);
        while bytes > self.limit {
            bytes -= self.kept[superfluous].bytes();
            superfluous += 1;
        }
        self.kept.drain(..superfluous);
    }
}

impl Kept {
    /// The number of tokens with which both begin.
    fn reach(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count()
    }

    fn bytes(&self) -> usize {
        self.sequence.bytes() + self.tokens.capacity() * size_of::<u32>()
    }
}
