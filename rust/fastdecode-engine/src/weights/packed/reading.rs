//! Reads packed files.

use super::header::{Checksum, Header};
use super::{BEFORE, CONFIG, LAYOUT, MAGIC, beginning};
use crate::error::{Error, Result};
use crate::packed_error::PackedError;
use crate::weights::file::WeightsFile;
use crate::weights::places::Contents;
use crate::weights::storage::Storage;
use fastdecode_simd::{DisjointSlice, Line, Session, memory};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A packed file whose header has been checked.
#[derive(Debug)]
pub struct PackedFile {
    file: WeightsFile,
    storage: Storage,
    header: Header,
}

/// Bytes that one task reads.
const PIECE: usize = 1 << 21;

impl PackedFile {
    /// Opens a file, and checks its length, its header and the places in it; the weights are not read.
    ///
    /// # Errors
    /// If it cannot be read, or is no packed file that this version can use.
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightsFile::open(path)?;
        let header = read_header(&file).map_err(|error| error.within(path))?;
        let named: Vec<_> =
            Storage::all().filter(|storage| storage.name() == &*header.dtype).collect();
        let Some(known) = named.first() else {
            let what = format!("it has the unknown number format {:?}", header.dtype);
            return Err(Error::from(PackedError::header(what)).within(path));
        };
        let found = named.iter().find(|storage| storage.definition() == &*header.definition);
        let Some(storage) = found.copied() else {
            let (dtype, known) = (known.name(), known.definition());
            let found = header.definition.into();
            let error = PackedError::Definition { dtype, found, known };
            return Err(Error::from(error).within(path));
        };
        Ok(Self { file, storage, header })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// How the matrices of its model are stored.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// What the model was packed from, as whoever packed it has put it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.header.source
    }

    /// The names of the files within it.
    #[must_use]
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.header.files.iter().map(|file| &*file.name)
    }

    /// The contents of a file within it.
    ///
    /// # Errors
    /// If there is none of this name, or it is damaged or cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let Some(found) = self.header.files.iter().find(|file| *file.name == *name) else {
            return Err(self.failed(PackedError::Missing { name: name.into() }));
        };
        let mut bytes = memory::filled(0, usize::try_from(found.length).unwrap_or(usize::MAX))?;
        self.file.read(found.start, &mut bytes)?;
        if Checksum::of(&bytes) != found.checksum {
            return Err(self.failed(PackedError::Checksum { part: name.into() }));
        }
        Ok(bytes)
    }

    /// The text of its configuration.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG)
    }

    /// Reads everything and compares it with the checksums.
    ///
    /// # Errors
    /// If something is damaged or cannot be read.
    pub fn check(&self) -> Result<()> {
        for name in self.names() {
            self.read(name)?;
        }
        let place = &self.header.weights;
        let (mut checksum, mut buffer) = (xxhash_rust::xxh3::Xxh3::new(), Vec::new());
        let (mut start, mut left) = (place.start, place.lines * size_of::<Line>() as u64);
        while left > 0 {
            let piece = memory::room(&mut buffer, left.min(PIECE as u64) as usize)?;
            self.file.read(start, piece)?;
            checksum.update(piece);
            start += piece.len() as u64;
            left -= piece.len() as u64;
        }
        self.file.check_unchanged()?;
        if Checksum(checksum.digest128().to_le_bytes()) == place.checksum {
            return Ok(());
        }
        Err(self.failed(PackedError::Checksum { part: "weights".into() }))
    }

    /// What its weights consist of.
    pub(crate) fn contents(&self) -> &Contents {
        &self.header.contents
    }

    /// The number of lines of its weights.
    pub(crate) fn lines(&self) -> u64 {
        self.header.weights.lines
    }

    /// Reads the weights, by all threads of a session.
    ///
    /// # Errors
    /// If they cannot be read, or the file has been written to since it was opened.
    pub(crate) fn read_weights(&self, to: &mut [Line], session: &mut Session<'_>) -> Result<()> {
        let bytes = Line::all_bytes_mut(to);
        let (size, first) = (bytes.len(), self.header.weights.start);
        let failure = Mutex::new(None);
        let pieces = DisjointSlice::new(bytes);
        session.run(size.div_ceil(PIECE), |task| {
            let start = task * PIECE;
            // SAFETY: pieces do not overlap, and each is one task's.
            let to = unsafe { pieces.part(start..size.min(start + PIECE)) };
            if let Err(error) = self.file.read(first + start as u64, to) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => self.file.check_unchanged(),
        }
    }

    fn failed(&self, error: PackedError) -> Error {
        Error::from(error).within(self.path())
    }
}

/// Reads the header and checks everything that it says about places.
fn read_header(file: &WeightsFile) -> Result<Header> {
    if cfg!(target_endian = "big") {
        return Err(PackedError::BigEndian.into());
    }
    let found = file.length();
    let mut line = [0; BEFORE];
    let present = found.min(BEFORE as u64) as usize;
    file.read(0, &mut line[..present])?;
    if !line.starts_with(&MAGIC) {
        return Err(PackedError::Foreign.into());
    }
    let [.., a, b, c, d] = *line.first_chunk::<12>().unwrap_or(&[0; 12]);
    let layout = u32::from_le_bytes([a, b, c, d]);
    if layout != LAYOUT && present >= 12 {
        return Err(PackedError::Layout { found: layout, known: LAYOUT }.into());
    }
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| line[at + i]));
    let (expected, length) = (number(16), number(24));
    if present < BEFORE || expected != found {
        return Err(PackedError::Length { expected: expected.max(BEFORE as u64), found }.into());
    }
    if length > found - BEFORE as u64 {
        let what = "the header".into();
        return Err(PackedError::Outside { what, start: BEFORE as u64, length }.into());
    }
    let mut text = Vec::new();
    let text = memory::room(&mut text, length as usize)?;
    file.read(BEFORE as u64, text)?;
    if line != beginning(found, text) {
        return Err(PackedError::header("its checksum is another one").into());
    }
    let header: Header =
        serde_json::from_slice(text).map_err(|error| PackedError::header(error.to_string()))?;
    header.check_places(length, found)?;
    Ok(header)
}
