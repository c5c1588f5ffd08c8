//! Writes packed files.

use super::header::{Checksum, Header, Inner, WeightsPlace, is_name};
use super::{ALIGNMENT, BEFORE, CONFIG, beginning};
use crate::error::Result;
use crate::packed_error::PackedError;
use crate::weights::places::Contents;
use crate::weights::storage::Storage;
use fastdecode_simd::{Line, memory};
use std::io;

/// A packed file that has not been written yet: its bytes are those of `head`, and then those of `weights`.
#[derive(Debug)]
pub struct Packed<'a> {
    /// Everything before the weights.
    pub head: Vec<u8>,
    /// The weights, as they lie in memory.
    pub weights: &'a [u8],
}

impl<'a> Packed<'a> {
    /// The file of some packed weights.
    pub(crate) fn new(
        storage: Storage,
        contents: &Contents,
        lines: &'a [Line],
        source: &str,
        files: &[(&str, &[u8])],
    ) -> Result<Self> {
        if cfg!(target_endian = "big") {
            return Err(PackedError::BigEndian.into());
        }
        let weights = Line::all_bytes(lines);
        if u32::try_from(lines.len()).is_err() {
            return Err(PackedError::TooLarge { bytes: weights.len() }.into());
        }
        if let Some((name, _)) = files.iter().find(|(name, _)| !is_name(name)) {
            return Err(PackedError::Name { name: (*name).to_owned() }.into());
        }
        if !files.iter().any(|(name, _)| *name == CONFIG) {
            return Err(PackedError::Missing { name: CONFIG.into() }.into());
        }
        let mut header = Header {
            dtype: storage.name().into(),
            definition: storage.definition().into(),
            source: source.into(),
            files: Vec::new(),
            weights: WeightsPlace {
                start: 0,
                lines: lines.len() as u64,
                checksum: Checksum::of(weights),
            },
            contents: contents.clone(),
        };
        for (name, bytes) in files {
            let (length, checksum) = (bytes.len() as u64, Checksum::of(bytes));
            header.files.push(Inner { name: (*name).into(), start: 0, length, checksum });
        }
        let text = placed(&mut header);
        let start = header.weights.start as usize;
        let mut head = memory::with_room(start)?;
        head.extend(beginning((start + weights.len()) as u64, text.as_bytes()));
        head.extend_from_slice(text.as_bytes());
        for (_, bytes) in files {
            head.extend_from_slice(bytes);
        }
        head.resize(start, 0);
        Ok(Self { head, weights })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        to.write_all(&self.head)?;
        to.write_all(self.weights)
    }
}

/// The text of the header, with the places of everything after it.
fn placed(header: &mut Header) -> String {
    let mut length = 0;
    loop {
        let mut end = BEFORE as u64 + length;
        for file in &mut header.files {
            file.start = end;
            end += file.length;
        }
        header.weights.start = end.next_multiple_of(ALIGNMENT);
        let text = serde_json::to_string(header).unwrap_or_default();
        // Places have more digits where the header is longer.
        if text.len() as u64 <= length {
            return format!("{text:length$}", length = length as usize);
        }
        length = text.len() as u64;
    }
}
