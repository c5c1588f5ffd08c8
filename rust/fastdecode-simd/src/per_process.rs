//! A shared value that a forked process makes anew.

use crate::process::Process;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value made on first use, once in each process.
///
/// A fork copies the memory of a process and only the forking thread. The copy of a lock that another
/// thread held then stays locked forever, what it guards may be half written, and the threads of a pool
/// are missing. So a forked process leaves the inherited value untouched and makes its own. It takes no
/// lock to find out.
pub struct PerProcess<T> {
    current: AtomicPtr<Made<T>>,
}

struct Made<T> {
    /// The process that made it.
    process: Process,
    value: T,
}

// SAFETY: it owns a `T`, which it drops on whatever thread drops it.
unsafe impl<T: Send> Send for PerProcess<T> {}
// SAFETY: it lends `&T` to any thread, and drops on one thread what another has made.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

impl<T> PerProcess<T> {
    /// Without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self { current: AtomicPtr::new(null_mut()) }
    }

    /// This process's value. Where two threads make it at once, one of the two values is dropped.
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        let process = Process::current();
        let found = self.current.load(Ordering::Acquire);
        // SAFETY: a pointer that is not null came from `Box::into_raw`. A value is freed only with
        // `self`: one that another process made is leaked.
        if let Some(made) = unsafe { found.as_ref() }
            && made.process == process
        {
            return &made.value;
        }
        let new = Box::into_raw(Box::new(Made { process, value: make() }));
        let swap = self.current.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire);
        match swap {
            // SAFETY: just made, and from now on freed only with `self`.
            Ok(_) => unsafe { &(*new).value },
            Err(other) => {
                // SAFETY: no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: the pointer changes only from null or another process's value to this
                // process's, so `other` is this process's, made by another thread.
                unsafe { &(*other).value }
            }
        }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let made = *self.current.get_mut();
        // SAFETY: as in `get_or_make`.
        if unsafe { made.as_ref() }.is_some_and(|made| made.process == Process::current()) {
            // SAFETY: it came from `Box::into_raw`, and nothing borrows from `self` any more.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PerProcess;
    use std::sync::Arc;

    #[test]
    fn one_value_in_one_process() {
        let alive = Arc::new(());
        let shared = PerProcess::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let first: *const Arc<()> = shared.get_or_make(|| Arc::clone(&alive));
                    assert!(std::ptr::eq(first, shared.get_or_make(|| unreachable!("it is made"))));
                });
            }
        });
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(shared);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
