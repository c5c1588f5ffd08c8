//! Which process this is, at the cost of reading a word.

/// A process, told apart from those that it was forked from and those that are forked from it.
///
/// The forks are counted, not looked up by the system's number, which a later process may get again. A
/// child that is made by a bare system call, without the C library, is taken for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u64);

impl Process {
    /// The calling process. Takes no lock.
    #[must_use]
    pub fn current() -> Self {
        Self(forks::generation())
    }
}

#[cfg(all(unix, not(miri)))]
mod forks {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// Forks between the first process that asked and this one.
    static FORKS: AtomicU64 = AtomicU64::new(0);
    /// Whether forks are counted.
    static COUNTED: AtomicBool = AtomicBool::new(false);

    #[inline]
    pub fn generation() -> u64 {
        if COUNTED.load(Ordering::Acquire) || count() {
            FORKS.load(Ordering::Relaxed)
        } else {
            // Above every count, so that it is equal to none.
            1 << 63 | u64::from(std::process::id())
        }
    }

    /// Begins to count, before the caller's process has been asked for by this thread. Threads that come
    /// here at once count each fork twice, which does no harm; a lock might be held at a fork.
    #[cold]
    fn count() -> bool {
        extern "C" fn in_child() {
            FORKS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the handler is part of a library that is never unloaded, and it only changes an atomic.
        let counted = unsafe { libc::pthread_atfork(None, None, Some(in_child)) } == 0;
        if counted {
            COUNTED.store(true, Ordering::Release);
        }
        counted
    }
}

/// Elsewhere, and under Miri, there are no forks.
#[cfg(any(miri, not(unix)))]
mod forks {
    pub fn generation() -> u64 {
        0
    }
}
