//! The system's allocator, which notes what each thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The allocator; a program that installs it with `#[global_allocator]` can ask what a call [`took`].
pub struct Watched;

fn note(size: usize, held: isize) {
    // A thread that ends has no counters.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = HELD.try_with(|sum| {
        sum.set(sum.get() + held);
        let _ = MOST.try_with(|most| most.set(most.get().max(sum.get())));
    });
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What a call took of memory.
pub struct Took {
    /// The largest single allocation, in bytes.
    pub largest: usize,
    /// The most bytes held at a time, beyond those that were held before.
    pub most: isize,
}

/// What a call returns, and what it took of memory on this thread; nothing where [`Watched`] is not installed.
pub fn took<T>(call: impl FnOnce() -> T) -> (T, Took) {
    let before = HELD.get();
    LARGEST.set(0);
    MOST.set(before);
    let found = call();
    (found, Took { largest: LARGEST.get(), most: MOST.get() - before })
}
