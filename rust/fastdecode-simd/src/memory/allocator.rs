//! An allocator that keeps some memory for what cannot be refused.

use super::Refused;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The system's allocator, with a reserve.
///
/// A small allocation deep in a call has no way to fail but to end the process. So some memory, which
/// is never touched, is held back: where the system refuses an allocation, a part of it is released, and
/// the allocation repeated. While a part is missing, [`check`] refuses whatever can be refused, until
/// the reserve is whole again.
#[derive(Debug, Default)]
pub struct Allocator;

/// Parts of the reserve, and the bytes of each.
const PARTS: usize = 4;
const PART: Layout = match Layout::from_size_align(2 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => Layout::new::<u64>(),
};

static HELD: [AtomicPtr<u8>; PARTS] = [const { AtomicPtr::new(ptr::null_mut()) }; PARTS];
/// The parts that have been released; all at first, and none where [`Allocator`] is not used.
static MISSING: AtomicUsize = AtomicUsize::new(0);

impl Allocator {
    /// Takes the reserve. Called once, by the program or module whose global allocator this is.
    pub fn hold() {
        MISSING.store(PARTS, Ordering::Relaxed);
        refill();
    }
}

/// Refuses if a part of the reserve is in use and cannot be replaced: there is hardly any memory left.
///
/// # Errors
/// [`Refused`].
#[inline]
pub fn check() -> Result<(), Refused> {
    if MISSING.load(Ordering::Relaxed) == 0 || refill() {
        return Ok(());
    }
    Err(Refused::by_the_system(PART.size()))
}

/// Takes the parts that are missing. Whether that worked.
#[cold]
fn refill() -> bool {
    for place in &HELD {
        if !place.load(Ordering::Relaxed).is_null() {
            continue;
        }
        // SAFETY: the size is not zero.
        let part = unsafe { System.alloc(PART) };
        if part.is_null() {
            return false;
        }
        match place.compare_exchange(ptr::null_mut(), part, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => _ = MISSING.fetch_sub(1, Ordering::Relaxed),
            // SAFETY: another thread was faster, so nothing else knows this part.
            Err(_) => unsafe { System.dealloc(part, PART) },
        }
    }
    true
}

/// Releases parts of the reserve until `again` succeeds.
#[cold]
fn with_reserve(size: usize, again: impl Fn() -> *mut u8) -> *mut u8 {
    if size > PARTS * PART.size() {
        return ptr::null_mut();
    }
    for place in &HELD {
        let part = place.swap(ptr::null_mut(), Ordering::AcqRel);
        if part.is_null() {
            continue;
        }
        MISSING.fetch_add(1, Ordering::Relaxed);
        // SAFETY: it was allocated with this layout, and only this thread has taken it out.
        unsafe { System.dealloc(part, PART) };
        let found = again();
        if !found.is_null() {
            return found;
        }
    }
    ptr::null_mut()
}

// SAFETY: all memory is the system allocator's; a null pointer is returned where it returned one.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises, here and in the other functions.
        let again = || unsafe { System.alloc(layout) };
        let found = again();
        if found.is_null() { with_reserve(layout.size(), again) } else { found }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let again = || unsafe { System.alloc_zeroed(layout) };
        let found = again();
        if found.is_null() { with_reserve(layout.size(), again) } else { found }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; a block whose reallocation failed is as it was, so it can be repeated.
        let again = || unsafe { System.realloc(block, layout, size) };
        let found = again();
        if found.is_null() { with_reserve(size, again) } else { found }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Allocator, HELD, MISSING, PARTS, check, with_reserve};
    use std::cell::Cell;
    use std::ptr;
    use std::sync::atomic::Ordering;

    #[test]
    fn the_reserve_is_released_part_by_part_and_taken_again() {
        assert!(check().is_ok());
        Allocator::hold();
        let held = || HELD.iter().filter(|part| !part.load(Ordering::Relaxed).is_null()).count();
        assert_eq!((held(), MISSING.load(Ordering::Relaxed)), (PARTS, 0));
        for wanted in 1..=PARTS + 1 {
            let tries = Cell::new(0);
            let found = with_reserve(1, || {
                tries.set(tries.get() + 1);
                if tries.get() < wanted { ptr::null_mut() } else { ptr::dangling_mut() }
            });
            assert_eq!(found.is_null(), wanted > PARTS);
            assert_eq!(MISSING.load(Ordering::Relaxed), wanted.min(PARTS));
            assert!(check().is_ok());
            assert_eq!((held(), MISSING.load(Ordering::Relaxed)), (PARTS, 0));
        }
        assert!(with_reserve(1 << 40, || unreachable!()).is_null());
    }
}
