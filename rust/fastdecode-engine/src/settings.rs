//! What the environment may decide: the instruction set and the number of threads. Neither changes
//! a bit of any result.

use crate::error::{Error, Result};
use fastdecode_core::Level;

/// Names the instruction set: portable, neon, avx2 or avx512.
pub const LEVEL: &str = "FASTDECODE_LEVEL";
/// Gives the number of threads.
pub const THREADS: &str = "FASTDECODE_THREADS";
/// More threads than this gain nothing: memory is the limit long before.
const MOST_THREADS: usize = 64;

/// The level to run at: the environment's, or the best of the machine.
///
/// # Errors
/// For a name that is unknown, or a level that the machine lacks.
pub fn level() -> Result<Level> {
    level_of(std::env::var_os(LEVEL).map(|v| v.to_string_lossy().into_owned()))
}

fn level_of(value: Option<String>) -> Result<Level> {
    let Some(value) = value.filter(|v| !v.is_empty()) else { return Ok(Level::detect()) };
    let available = Level::available();
    available.iter().copied().find(|&level| name(level) == value).ok_or_else(|| {
        let names: Vec<_> = available.into_iter().map(name).collect();
        Error::Setting {
            name: LEVEL,
            value,
            need: format!("this machine has {}", names.join(", ")),
        }
    })
}

/// The name of a level, as the environment gives it.
#[must_use]
pub fn name(level: Level) -> &'static str {
    match level {
        Level::Portable => "portable",
        #[cfg(target_arch = "aarch64")]
        Level::Neon => "neon",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => "avx2",
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => "avx512",
    }
}

/// The threads to run on: the environment's, or the processors that the process may use.
///
/// # Errors
/// For what is no number from 1.
pub fn threads() -> Result<usize> {
    threads_of(std::env::var_os(THREADS).map(|v| v.to_string_lossy().into_owned()))
}

fn threads_of(value: Option<String>) -> Result<usize> {
    let Some(value) = value.filter(|v| !v.is_empty()) else {
        return Ok(std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS));
    };
    match value.parse() {
        Ok(threads @ 1..) => Ok(usize::min(threads, MOST_THREADS)),
        _ => Err(Error::Setting { name: THREADS, value, need: "give a number from 1".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::{level_of, name, threads_of};
    use fastdecode_core::Level;

    #[test]
    fn each_level_has_its_name() {
        for level in Level::available() {
            assert_eq!(level_of(Some(name(level).into())).unwrap(), level);
        }
        assert_eq!(level_of(None).unwrap(), Level::detect());
        assert_eq!(level_of(Some(String::new())).unwrap(), Level::detect());
        let message = level_of(Some("sse9".into())).unwrap_err().to_string();
        assert!(message.starts_with(
            "FASTDECODE_LEVEL=\"sse9\" in the environment: this machine has portable"
        ));
    }

    #[test]
    fn threads_are_counted_from_one() {
        assert_eq!(threads_of(Some("3".into())).unwrap(), 3);
        assert_eq!(threads_of(Some("9999".into())).unwrap(), 64);
        assert!(threads_of(None).unwrap() >= 1);
        for bad in ["0", "-1", "two", "1.5"] {
            let message = threads_of(Some(bad.into())).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("FASTDECODE_THREADS=\"{bad}\" in the environment: give a number from 1")
            );
        }
    }
}
