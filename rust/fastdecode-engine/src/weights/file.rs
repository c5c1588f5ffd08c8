//! A file of weights, which is read, never mapped: another program may write to it at any time.

use crate::error::{Error, Result};
use crate::gguf::{self, ReadAt};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// An open file of weights, read in pieces at given places by any number of threads.
///
/// A file that is cut short or written to while it is read is an error. A mapping of it would end the
/// process instead, or change weights unnoticed.
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
        self.file.read_exact_at(start, to).map_err(|source| self.unread(source))
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

    /// What a failed read of the file means.
    fn unread(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(),
            _ => Error::file(&self.path, source),
        }
    }

    /// An error of the file as a GGUF file.
    pub(super) fn failed(&self, error: gguf::Error) -> Error {
        match error {
            gguf::Error::Read { source, .. } => self.unread(source),
            error => Error::gguf(error, &self.path),
        }
    }

    fn changed(&self) -> Error {
        Error::Changed { path: self.path.clone() }
    }
}

impl ReadAt for Arc<WeightsFile> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(offset, to)
    }
}
