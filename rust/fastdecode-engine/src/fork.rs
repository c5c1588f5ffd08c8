//! Copies of chunks that rows part at.

use crate::cache::Shape;
use crate::error::Result;
use crate::slab::{Chunk, Slabs};
use fastdecode_simd::Session;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// A chunk of the cache that several rows have, and the one that takes its place in a row that will write
/// to it. All that rows part at before a pass is copied in one phase: one by one it took up to 1 ms of a
/// step of 32 beams.
pub(crate) struct Fork {
    from: Arc<Chunk>,
    to: Arc<Chunk>,
    /// Positions that are written.
    filled: usize,
}

impl Fork {
    /// Puts a new chunk in the place of `chunk` where anybody else has it; what is in it will be there
    /// once `forks` have been made. Those that are under way do not count: they only read.
    pub fn part(
        chunk: &mut Arc<Chunk>,
        filled: usize,
        slabs: &Slabs,
        forks: &mut Vec<Self>,
    ) -> Result<()> {
        let reading = forks.iter().filter(|fork| Arc::ptr_eq(&fork.from, chunk)).count();
        if Arc::strong_count(chunk) - reading == 1 {
            // Who had it has let go of it after the last look at it.
            fence(Ordering::Acquire);
            return Ok(());
        }
        let to = Arc::new(slabs.take()?);
        let from = std::mem::replace(chunk, Arc::clone(&to));
        if filled > 0 {
            forks.push(Self { from, to, filled });
        }
        Ok(())
    }

    /// Copies what is to be copied.
    pub fn make(forks: &[Self], shape: Shape, session: &mut Session<'_>) {
        session.run(forks.len() * shape.layers(), |task| {
            let fork = &forks[task / shape.layers()];
            for (first, count) in shape.written(task % shape.layers(), fork.filled) {
                let (from, to) = (fork.from.part(first, count), fork.to.part(first, count));
                // SAFETY: chunks do not overlap. Nobody writes to the one while the other holds it: a
                // row writes within a pass, to what it has alone, and this is before it. The new one is
                // known to its row alone, and each layer is one task's.
                unsafe { from.copy_to_nonoverlapping(to, count) };
            }
        });
    }
}
