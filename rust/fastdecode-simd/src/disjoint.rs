//! A mutable slice that several tasks write to at once.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose non-overlapping parts go to different tasks of one parallel phase.
pub struct DisjointSlice<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for the slice that it was made of, lent in disjoint parts (see `part`).
unsafe impl<T: Send> Sync for DisjointSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for DisjointSlice<'_, T> {}

impl<'a, T> DisjointSlice<'a, T> {
    /// Over the whole of `slice`.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// The number of elements of the whole slice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the slice is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// While the result lives, nothing else uses an element of `range`.
    ///
    /// # Panics
    /// If the range extends beyond the slice.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::mut_from_ref, reason = "the caller promises that ranges do not overlap")]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: within the slice, as just checked, and used by nothing else, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Writes `values` to the elements `first`, `first + step`, and so on.
    ///
    /// # Safety
    /// Meanwhile nothing else uses one of these elements.
    ///
    /// # Panics
    /// If the last of them lies beyond the slice.
    #[inline(always)]
    pub unsafe fn spread(&self, first: usize, step: usize, values: &[T])
    where
        T: Copy,
    {
        if values.is_empty() {
            return;
        }
        let last = (values.len() - 1).checked_mul(step).and_then(|last| last.checked_add(first));
        assert!(last.is_some_and(|last| last < self.length));
        for (i, value) in values.iter().enumerate() {
            // SAFETY: at most the last one, which lies within the slice, and used by nothing else, as the
            // caller promises.
            unsafe { self.start.add(first + i * step).write(*value) };
        }
    }
}
