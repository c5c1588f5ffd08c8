//! Memory whose size a caller or a file determines: the system may refuse it.

use crate::error::{Error, Result};
use std::io;
use std::sync::{Mutex, PoisonError};

/// The first `size` elements of `buffer`, which grows where it must. Their values are unspecified.
///
/// # Errors
/// If the system refuses memory.
pub(crate) fn room<T: Clone + Default>(buffer: &mut Vec<T>, size: usize) -> Result<&mut [T]> {
    if let Some(more) = size.checked_sub(buffer.len()) {
        buffer.try_reserve_exact(more).map_err(|_| refused::<T>(size))?;
        buffer.resize(size, T::default());
    }
    Ok(&mut buffer[..size])
}

fn refused<T>(size: usize) -> Error {
    let bytes = size.saturating_mul(size_of::<T>());
    Error::Memory { bytes, source: io::ErrorKind::OutOfMemory.into() }
}

/// Keeps an error of one of several tasks, unless there is one already.
pub(crate) fn keep_first(kept: &Mutex<Option<Error>>, error: Error) {
    kept.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}
