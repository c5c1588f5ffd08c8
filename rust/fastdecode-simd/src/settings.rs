//! The environment variables that choose the instruction set and the number of threads. Neither
//! changes a bit of any result.

use crate::level::Level;
use thiserror::Error;

/// The instruction set: portable, neon, avx2 or avx512.
pub const LEVEL: &str = "FASTDECODE_LEVEL";
/// The number of threads.
pub const THREADS: &str = "FASTDECODE_THREADS";
/// The most threads of a session: memory bandwidth is exhausted well before.
pub(crate) const MOST_THREADS: usize = 64;

/// An environment variable with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name}={value:?} in the environment: {need}")]
pub struct SettingError {
    /// The variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The values that can be used.
    pub need: String,
}

/// The level that the environment names, or the fastest of this machine.
///
/// # Errors
/// If the name is unknown, or names a level that this machine lacks.
pub fn level() -> Result<Level, SettingError> {
    level_of(read(LEVEL))
}

/// The number of threads that the environment gives, or the processors that this process may use.
///
/// # Errors
/// If it is not a positive integer.
pub fn threads() -> Result<usize, SettingError> {
    threads_or(processors)
}

/// [`threads`], with another default.
pub(crate) fn threads_or(default: impl FnOnce() -> usize) -> Result<usize, SettingError> {
    threads_of(read(THREADS), default)
}

/// The processors that this process may use, at most [`MOST_THREADS`].
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// A variable's value. An empty one counts as unset.
fn read(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    Some(value).filter(|value| !value.is_empty())
}

fn level_of(value: Option<String>) -> Result<Level, SettingError> {
    let Some(value) = value else { return Ok(Level::detect()) };
    Level::named(&value).ok_or_else(|| {
        let names: Vec<_> = Level::available().into_iter().map(Level::name).collect();
        SettingError { name: LEVEL, value, need: format!("this machine has {}", names.join(", ")) }
    })
}

fn threads_of(
    value: Option<String>,
    default: impl FnOnce() -> usize,
) -> Result<usize, SettingError> {
    let Some(value) = value else { return Ok(default()) };
    match value.parse() {
        Ok(threads @ 1..) => Ok(usize::min(threads, MOST_THREADS)),
        _ => Err(SettingError { name: THREADS, value, need: "give a number from 1".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::{level_of, threads_of};
    use crate::level::Level;

    #[test]
    fn a_level_by_its_name() {
        for level in Level::available() {
            assert_eq!(level_of(Some(level.name().into())), Ok(level));
        }
        assert_eq!(level_of(None), Ok(Level::detect()));
        let message = level_of(Some("sse9".into())).unwrap_err().to_string();
        assert!(message.starts_with(
            "FASTDECODE_LEVEL=\"sse9\" in the environment: this machine has portable"
        ));
    }

    #[test]
    fn threads_from_one_to_the_most() {
        assert_eq!(threads_of(Some("3".into()), || 7), Ok(3));
        assert_eq!(threads_of(Some("9999".into()), || 7), Ok(64));
        assert_eq!(threads_of(None, || 7), Ok(7));
        for bad in ["0", "-1", "two", "1.5"] {
            let message = threads_of(Some(bad.into()), || 7).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("FASTDECODE_THREADS=\"{bad}\" in the environment: give a number from 1")
            );
        }
    }
}
