//! The memory of the KV cache: many chunks in one slab of large pages.
//!
//! A step of a large batch walks through thousands of chunks, far apart. With small pages each of them
//! would cost address translations, and the system would map, clear and unmap the pages of every chunk.

use crate::arena::Arena;
use crate::error::Result;
use fastdecode_simd::{Line, PerProcess, Process};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Slabs of chunks of one size. A few slabs without chunks in use are kept for the next ones, so that
/// their pages need not be cleared again.
///
/// A forked process starts with no slabs: another thread may have held the locks at the fork.
pub(crate) struct Slabs {
    chunk_lines: usize,
    list: PerProcess<Arc<Mutex<Vec<Arc<Slab>>>>>,
    /// How many chunks may be taken until one is refused, as if the system did.
    #[cfg(test)]
    left: std::sync::atomic::AtomicUsize,
}

/// Lines of a slab, roughly (16 MiB).
const SLAB_LINES: usize = 1 << 18;
/// The most chunks of a slab.
const MOST: usize = 64;
/// The most slabs without chunks in use that are kept (256 MiB).
const IDLE: usize = 16;

/// The lock, even after a panic: what these locks guard is consistent between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Slab {
    start: NonNull<Line>,
    /// What `start` points into.
    _arena: Arena,
    chunks: usize,
    free: Mutex<Vec<usize>>,
    /// The slabs that it is one of; gone once the model is.
    home: Weak<Mutex<Vec<Arc<Slab>>>>,
    /// The process that made it, which alone uses its lock.
    process: Process,
}

// SAFETY: the pointer is to memory that the slab owns.
unsafe impl Send for Slab {}
// SAFETY: as above, and the memory is only lent in chunks.
unsafe impl Sync for Slab {}

impl Slab {
    /// The chunk of this index, which is not in use.
    fn chunk(self: &Arc<Self>, index: usize, lines: usize) -> Chunk {
        debug_assert!(index < self.chunks);
        // SAFETY: within the slab, which has room for `lines` lines at each index that it gives out.
        let start = unsafe { self.start.add(index * lines) };
        Chunk { start, lines, index, slab: Arc::clone(self) }
    }

    fn is_idle(&self) -> bool {
        lock(&self.free).len() == self.chunks
    }
}

/// A stretch of lines that its holder alone uses. Its initial contents are unspecified: zeros, or what
/// an earlier holder left.
pub(crate) struct Chunk {
    start: NonNull<Line>,
    lines: usize,
    index: usize,
    /// What `start` points into.
    slab: Arc<Slab>,
}

// SAFETY: the pointer is to memory of the slab, which lives as long and gives it to this chunk alone.
unsafe impl Send for Chunk {}
// SAFETY: as above, and the memory is only reached through pointers.
unsafe impl Sync for Chunk {}

impl Slabs {
    pub fn new(chunk_lines: usize) -> Self {
        Self {
            chunk_lines,
            list: PerProcess::new(),
            #[cfg(test)]
            left: usize::MAX.into(),
        }
    }

    /// Refuses all chunks after `count` more.
    #[cfg(test)]
    pub fn refuse_after(&self, count: usize) {
        self.left.store(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// A chunk that is not in use.
    pub fn take(&self) -> Result<Chunk> {
        let lines = self.chunk_lines;
        #[cfg(test)]
        {
            let left = self.left.load(std::sync::atomic::Ordering::Relaxed);
            self.refuse_after(left.checked_sub(1).ok_or_else(|| {
                fastdecode_simd::memory::Refused::by_the_system(lines * size_of::<Line>())
            })?);
        }
        let home = self.list.get_or_make(Arc::default);
        let mut slabs = lock(home);
        for slab in slabs.iter() {
            let index = lock(&slab.free).pop();
            if let Some(index) = index {
                return Ok(slab.chunk(index, lines));
            }
        }
        let chunks = (SLAB_LINES / lines.max(1)).clamp(1, MOST);
        let mut arena = Arena::new(chunks.saturating_mul(lines))?;
        let slab = Arc::new(Slab {
            start: NonNull::from(arena.lines_mut()).cast(),
            _arena: arena,
            chunks,
            free: Mutex::new((1..chunks).rev().collect()),
            home: Arc::downgrade(home),
            process: Process::current(),
        });
        slabs.push(Arc::clone(&slab));
        Ok(slab.chunk(0, lines))
    }

    /// The number of chunks in use.
    pub fn in_use(&self) -> usize {
        let slabs = lock(self.list.get_or_make(Arc::default));
        slabs.iter().map(|slab| slab.chunks - lock(&slab.free).len()).sum()
    }
}

impl Chunk {
    /// Where `count` of its lines begin, from `first` on.
    ///
    /// # Panics
    /// If it has fewer lines.
    #[inline(always)]
    pub fn part(&self, first: usize, count: usize) -> *mut Line {
        assert!(first <= self.lines && count <= self.lines - first);
        // SAFETY: within the chunk, as has just been checked.
        unsafe { self.start.as_ptr().add(first) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.slab.process != Process::current() {
            // Inherited through a fork: the place is never given out again here, so nothing needs to be
            // recorded, and the lock may have been held at the fork.
            return;
        }
        lock(&self.slab.free).push(self.index);
        if self.slab.is_idle()
            && let Some(slabs) = self.slab.home.upgrade()
        {
            let mut idle = 0;
            lock(&slabs).retain(|slab| {
                idle += usize::from(slab.is_idle());
                idle <= IDLE || !slab.is_idle()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IDLE, MOST, Slabs};
    use fastdecode_simd::Line;

    #[test]
    fn chunks_do_not_overlap_and_are_reused() {
        let slabs = Slabs::new(3);
        let write = |chunk: &super::Chunk, x: f32| {
            for i in 0..3 {
                // SAFETY: this thread alone uses the chunk.
                unsafe { *chunk.part(i, 1) = Line([x; 16]) };
            }
        };
        let read = |chunk: &super::Chunk| {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts(chunk.part(0, 3), 3).to_vec() }
        };
        let mut chunks: Vec<_> = (0..=2 * MOST).map(|_| slabs.take().unwrap()).collect();
        for (i, chunk) in chunks.iter().enumerate() {
            write(chunk, i as f32);
        }
        for (i, chunk) in chunks.iter().enumerate() {
            assert_eq!(read(chunk), [Line([i as f32; 16]); 3]);
        }
        let place = chunks[7].part(0, 3);
        chunks.swap_remove(7);
        assert_eq!(slabs.take().unwrap().part(0, 3), place);
        drop(chunks);
    }

    #[test]
    fn a_few_slabs_are_kept() {
        let slabs = Slabs::new(1);
        let count = || slabs.list.get_or_make(Default::default).lock().unwrap().len();
        let chunks: Vec<_> = (0..(IDLE + 3) * MOST).map(|_| slabs.take().unwrap()).collect();
        assert_eq!(count(), IDLE + 3);
        let last = slabs.take().unwrap();
        assert_eq!(count(), IDLE + 4);
        drop(chunks);
        // The last one's slab is in use.
        assert_eq!(count(), IDLE + 1);
        drop(last);
        assert_eq!(count(), IDLE);
        let again: Vec<_> = (0..IDLE * MOST).map(|_| slabs.take().unwrap()).collect();
        assert_eq!(count(), IDLE);
        // Chunks may outlive the `Slabs` that they came from.
        drop(slabs);
        drop(again);
    }
}
