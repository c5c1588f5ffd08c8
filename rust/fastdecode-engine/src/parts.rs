//! A mutable slice whose parts go to different tasks of one phase.

use std::marker::PhantomData;
use std::ops::Range;

/// Hands out parts of a slice; each caller vouches that no two tasks have the same element.
pub struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Parts` is the slice it was made of, given out in disjoint parts (see `part`).
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Over the whole of `slice`.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Whether it holds `count` elements in all.
    #[must_use]
    pub fn holds(&self, count: usize) -> bool {
        self.length == count
    }

    /// One part.
    ///
    /// # Safety
    /// While the result lives, nobody else uses an element of `range`.
    ///
    /// # Panics
    /// Where the range reaches beyond the slice.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::mut_from_ref, reason = "the disjointness is the caller's promise")]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: within the slice, as just checked, and used by nobody else, as promised.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
