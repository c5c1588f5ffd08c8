//! Memory whose size a caller chooses: each request may be refused.
//!
//! Rust's collections end the process where the system refuses them memory. So whatever grows with
//! a caller's argument is reserved through this module first, and a refusal is an error. What is
//! small and cannot be refused everywhere is covered by [`Allocator`], which keeps some memory for it.

mod allocator;
mod limits;

pub use allocator::{Allocator, check};

use limits::Limit;
use std::fmt;

/// Memory that was refused: by the system, or because there is not that much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The number of bytes of the request.
    pub bytes: usize,
    /// The limit that this exceeds; None where the system refused it.
    limit: Option<Limit>,
    /// What needs less memory.
    advice: &'static str,
}

/// The advice for memory that a call needs.
const LESS: &str = "give fewer rows or prompts, or a smaller n, num_samples, k or batch_size";
/// The advice for memory that a model's weights need.
const SMALLER: &str = "give a dtype with fewer bits, such as \"int8\", or a smaller model";

impl Refused {
    /// This number of bytes, which the system would not give.
    #[must_use]
    pub fn by_the_system(bytes: usize) -> Self {
        Self { bytes, limit: None, advice: LESS }
    }

    /// The same, for the weights of a model.
    #[must_use]
    pub fn for_weights(self) -> Self {
        Self { advice: SMALLER, ..self }
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = Amount(self.bytes as u64);
        match self.limit {
            Some(limit) => {
                let Limit { bytes, of } = limit;
                write!(f, "this needs {asked} of memory, and {of} {}", Amount(bytes))?;
            }
            None => write!(f, "the system refused {asked} of memory")?,
        }
        write!(f, "; {}", self.advice)
    }
}

/// A number of bytes, for people.
struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return write!(f, "{} bytes", self.0);
        }
        let mut value = self.0 as f64 / 1e3;
        let mut unit = 0;
        while value >= 999.95 && unit < UNITS.len() - 1 {
            value /= 1e3;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

/// Requests below this are not compared with the machine's memory, which takes a few files to find
/// out.
const LARGE: usize = 64 << 20;

/// Refuses a request that exceeds the memory there is, since a system that overcommits would grant it
/// and end the process later.
///
/// # Errors
/// [`Refused`], with the limit.
#[inline]
pub fn admit(bytes: usize) -> Result<(), Refused> {
    if bytes < LARGE {
        return Ok(());
    }
    match limits::exceeded(bytes as u64) {
        Some(limit) => Err(Refused { limit: Some(limit), ..Refused::by_the_system(bytes) }),
        None => Ok(()),
    }
}

/// Whether this number of bytes can be allocated now, for callers that then allocate it in small pieces.
///
/// # Errors
/// [`Refused`].
pub fn probe(bytes: usize) -> Result<(), Refused> {
    let mut vec = Vec::<u8>::new();
    let had = reserve(&mut vec, bytes);
    // The compiler would otherwise see that it is not used, and leave the request out.
    std::hint::black_box(&vec);
    had
}

/// Room in `vec` for `more` elements: exactly that many where it has to grow.
///
/// # Errors
/// [`Refused`]. The contents of `vec` are then as before.
pub fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<(), Refused> {
    if vec.capacity() - vec.len() >= more {
        return Ok(());
    }
    let bytes = vec.len().saturating_add(more).saturating_mul(size_of::<T>());
    admit(bytes)?;
    let refused = Refused::by_the_system(bytes);
    vec.try_reserve_exact(more).map_err(|_| refused)?;
    // Memory that was kept for what cannot be refused has been given out: this request can be.
    check().map_err(|_| refused)
}

/// An empty vector with room for `count` elements.
///
/// # Errors
/// [`Refused`].
pub fn with_room<T>(count: usize) -> Result<Vec<T>, Refused> {
    let mut vec = Vec::new();
    reserve(&mut vec, count)?;
    Ok(vec)
}

/// `count` copies of a value.
///
/// # Errors
/// [`Refused`].
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, Refused> {
    let mut vec = with_room(count)?;
    vec.resize(count, value);
    Ok(vec)
}

/// The elements of an iterator that knows how many it has.
///
/// # Errors
/// [`Refused`].
pub fn collect<T>(from: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, Refused> {
    let mut vec = with_room(from.len())?;
    vec.extend(from);
    Ok(vec)
}

/// The elements of some vectors, one after the other. A single one is not copied.
///
/// # Errors
/// [`Refused`].
pub fn concat<T: Clone>(mut parts: Vec<Vec<T>>) -> Result<Vec<T>, Refused> {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return Ok(only);
    }
    let mut all = with_room(parts.iter().map(Vec::len).sum())?;
    for part in &parts {
        all.extend_from_slice(part);
    }
    Ok(all)
}

/// The first `size` elements of `buffer`, which grows where it must. Those that it had keep their
/// values.
///
/// # Errors
/// [`Refused`].
pub fn room<T: Clone + Default>(buffer: &mut Vec<T>, size: usize) -> Result<&mut [T], Refused> {
    if let Some(more) = size.checked_sub(buffer.len()) {
        reserve(buffer, more)?;
        buffer.resize(size, T::default());
    }
    Ok(&mut buffer[..size])
}

#[cfg(test)]
mod tests {
    use super::{Refused, admit, concat, filled, reserve, room};

    #[test]
    fn what_no_machine_has_is_refused_before_it_begins() {
        for bytes in [1 << 50, usize::MAX] {
            let error = admit(bytes).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("this needs "), "{text}");
            assert!(text.contains(" of memory, and "), "{text}");
            let mut vec = vec![1u8];
            assert!(reserve(&mut vec, bytes - 1).is_err());
            assert_eq!(vec, [1]);
        }
        assert!(admit(1 << 20).is_ok());
        assert!(filled(0u64, usize::MAX / 4).is_err());
    }

    #[test]
    fn messages_name_amounts_for_people() {
        let text = |bytes| Refused::by_the_system(bytes).to_string();
        assert_eq!(
            text(25_600_000),
            "the system refused 25.6 MB of memory; give fewer rows or prompts, or a smaller n, \
             num_samples, k or batch_size"
        );
        assert_eq!(
            Refused::by_the_system(1_000).for_weights().to_string(),
            "the system refused 1.0 kB of memory; give a dtype with fewer bits, such as \"int8\", or a \
             smaller model"
        );
        assert!(text(999).contains("refused 999 bytes of"));
        assert!(text(999_999).contains("refused 1.0 MB of"));
        assert!(text(usize::MAX).contains("refused 18.4 EB of"));
    }

    #[test]
    fn vectors_are_as_those_of_the_standard_library() {
        assert_eq!(filled(7u8, 3).unwrap(), [7, 7, 7]);
        assert_eq!(concat(vec![vec![1, 2], vec![], vec![3]]).unwrap(), [1, 2, 3]);
        assert_eq!(concat(vec![vec![1, 2]]).unwrap(), [1, 2]);
        let mut buffer = vec![1, 2, 3];
        assert_eq!(room(&mut buffer, 2).unwrap(), [1, 2]);
        assert_eq!(room(&mut buffer, 5).unwrap(), [1, 2, 3, 0, 0]);
    }
}
