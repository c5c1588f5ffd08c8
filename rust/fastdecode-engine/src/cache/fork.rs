//! Copies of the chunks at which sequences diverge.

use super::shape::Shape;
use super::slab::{Chunk, Slabs};
use crate::error::Result;
use fastdecode_simd::{Session, memory};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// A chunk that several sequences share, and the copy that replaces it in a sequence about to write to
/// it. All copies that a pass needs are made in one parallel phase.
pub(super) struct Fork {
    from: Arc<Chunk>,
    to: Arc<Chunk>,
    /// Positions that have been written.
    filled: usize,
}

impl Fork {
    /// Replaces `chunk` by a new one if another sequence holds it; [`Fork::make_all`] then copies its
    /// contents. Forks that are pending do not count as holders: they only read.
    pub fn diverge(
        chunk: &mut Arc<Chunk>,
        filled: usize,
        slabs: &Slabs,
        forks: &mut Vec<Self>,
    ) -> Result<()> {
        let reading = forks.iter().filter(|fork| Arc::ptr_eq(&fork.from, chunk)).count();
        if Arc::strong_count(chunk) - reading == 1 {
            // A former holder may have released it, after its last read, on another thread.
            fence(Ordering::Acquire);
            return Ok(());
        }
        if forks.len() == forks.capacity() {
            memory::reserve(forks, forks.len().max(16))?;
        }
        let to = Arc::new(slabs.take()?);
        let from = std::mem::replace(chunk, Arc::clone(&to));
        if filled > 0 {
            forks.push(Self { from, to, filled });
        }
        Ok(())
    }

    /// Makes the copies.
    pub fn make_all(forks: &[Self], shape: Shape, session: &mut Session<'_>) {
        session.run(forks.len() * shape.layers, |task| {
            let fork = &forks[task / shape.layers];
            for (first, count) in shape.written(task % shape.layers, fork.filled) {
                let (from, to) = (fork.from.part(first, count), fork.to.part(first, count));
                // SAFETY: chunks do not overlap. A sequence writes only to chunks that it alone has, and
                // `from` is held by this fork too; `to` is known to its sequence alone, which writes after
                // this, and each of its layers belongs to one task.
                unsafe { from.copy_to_nonoverlapping(to, count) };
            }
        });
    }
}
