//! A file of weights, which is read, never mapped: another program may write to it at any time.

use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// An open file of weights, read in pieces at given places by any number of threads.
///
/// A file that is cut short or written to while it is read is an error. A mapping of it would end the
/// process instead, or change weights without a word.
#[derive(Debug)]
pub struct WeightsFile {
    file: File,
    path: PathBuf,
    length: u64,
    /// When it was last written to, where the system knows.
    written: Option<SystemTime>,
}

impl WeightsFile {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::file(path, source);
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let (length, written) = (about.len(), about.modified().ok());
        Ok(Self { file, path: path.to_owned(), length, written })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `to` with the bytes from `start` on.
    ///
    /// # Errors
    /// If they cannot be read, or the file has become shorter.
    pub(super) fn read(&self, start: u64, to: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, start, to).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(),
            _ => Error::file(&self.path, source),
        })
    }

    /// Whether what was read is the file that was opened.
    ///
    /// # Errors
    /// If it has been written to since, or cut.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        let about = self.file.metadata().map_err(|source| Error::file(&self.path, source))?;
        if about.len() == self.length && about.modified().ok() == self.written {
            return Ok(());
        }
        Err(self.changed())
    }

    fn changed(&self) -> Error {
        Error::Changed { path: self.path.clone() }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, start: u64, to: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, start)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut start: u64, mut to: &mut [u8]) -> io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, start) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                to = &mut to[count..];
                start += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
