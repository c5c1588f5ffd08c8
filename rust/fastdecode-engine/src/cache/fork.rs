//! Copies of the chunks at which sequences diverge.

use super::layout::Kind;
use super::shape::Shape;
use super::slab::Chunk;
use crate::error::Result;
use fastdecode_simd::{Session, memory};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// A chunk that several sequences share, and the copy that replaces it in a sequence about to write to
/// it. All copies that a pass needs are made in one parallel phase.
pub(super) struct Fork {
    from: Arc<Chunk>,
    to: Arc<Chunk>,
    shape: Shape,
    /// Positions that have been written.
    filled: usize,
}

impl Fork {
    /// Replaces `chunk` by a new one if another sequence holds it; [`Fork::make_all`] then copies its
    /// contents. Forks that are pending do not count as holders: they only read.
    pub fn diverge(
        chunk: &mut Arc<Chunk>,
        filled: usize,
        kind: &Kind,
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
        let to = Arc::new(kind.slabs.take()?);
        let from = std::mem::replace(chunk, Arc::clone(&to));
        if filled > 0 {
            forks.push(Self { from, to, shape: kind.shape, filled });
        }
        Ok(())
    }

    /// Makes the copies.
    pub fn make_all(forks: &[Self], session: &mut Session<'_>) {
        let layers = forks.iter().map(|fork| fork.shape.layers).max().unwrap_or(0);
        session.run(forks.len() * layers, |task| {
            let (Self { from, to, shape, filled }, layer) = (&forks[task / layers], task % layers);
            if layer >= shape.layers {
                return;
            }
            for (first, count) in shape.written(layer, *filled) {
                let (from, to) = (from.part(first, count), to.part(first, count));
                // SAFETY: chunks do not overlap. A sequence writes only to chunks that it alone has, and
                // `from` is held by this fork too; `to` is known to its sequence alone, which writes after
                // this, and each of its layers belongs to one task.
                unsafe { from.copy_to_nonoverlapping(to, count) };
            }
        });
    }
}
