//! The header of a packed file.

use super::{ALIGNMENT, BEFORE};
use crate::packed_error::PackedError;
use crate::weights::places::Contents;
use fastdecode_simd::Line;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// What the header says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The name of the number format.
    pub dtype: Box<str>,
    /// The definition of the number format.
    pub definition: Box<str>,
    /// What the model was packed from, for the caller.
    pub source: Box<str>,
    #[serde(deserialize_with = "few")]
    pub files: Vec<Inner>,
    pub weights: WeightsPlace,
    pub contents: Contents,
}

/// A file within the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inner {
    pub name: Box<str>,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    pub checksum: Checksum,
}

/// Where the weights lie.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightsPlace {
    /// Their first byte.
    pub start: u64,
    /// The number of lines.
    pub lines: u64,
    pub checksum: Checksum,
}

/// A checksum, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(pub [u8; 16]);

/// The most files within a file.
const MOST_FILES: usize = 256;
/// The most characters of the name of one.
const LONGEST_NAME: usize = 200;

impl Header {
    /// Checks that everything lies within a file of `length` bytes, one after the other.
    pub fn check_places(&self, header: u64, length: u64) -> Result<(), PackedError> {
        let mut end = BEFORE as u64 + header;
        let mut names: Vec<&str> = Vec::new();
        for file in &self.files {
            if !is_name(&file.name) || names.contains(&&*file.name) {
                let what = format!("{:?} is no name of a file in it, or is there twice", file.name);
                return Err(PackedError::header(what));
            }
            names.push(&file.name);
            end = within(&file.name, [file.start, file.length], end, length)?;
        }
        let bytes = self.weights.lines.saturating_mul(size_of::<Line>() as u64);
        let end = within("weights", [self.weights.start, bytes], end, length)?;
        if end != length || !self.weights.start.is_multiple_of(ALIGNMENT) {
            let what = "the weights are not at a whole page, or not the end of the file";
            return Err(PackedError::header(what));
        }
        Ok(())
    }
}

/// The end of a part, if it begins at byte `least` or later and ends within the file.
fn within(
    what: &str,
    [start, length]: [u64; 2],
    least: u64,
    most: u64,
) -> Result<u64, PackedError> {
    match start.checked_add(length) {
        Some(end) if start >= least && end <= most => Ok(end),
        _ => Err(PackedError::Outside { what: what.to_owned(), start, length }),
    }
}

/// Whether a file within a file may have this name, so that it can be written below a folder, too.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let part = |part: &str| !part.trim_matches('.').is_empty() && part.chars().all(plain);
    name.len() <= LONGEST_NAME && name.split('/').all(part)
}

/// Files, of which there are few: a list of any length would be many times as large in memory.
fn few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Inner>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Inner>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(to, "at most {MOST_FILES} files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<Inner>, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = from.next_element()? {
                if files.len() == MOST_FILES {
                    return Err(A::Error::invalid_length(MOST_FILES + 1, &self));
                }
                files.push(file);
            }
            Ok(files)
        }
    }

    from.deserialize_seq(Few)
}

impl Checksum {
    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes())
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", u128::from_le_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = digits.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        value
            .map(|value| Self(value.to_le_bytes()))
            .ok_or_else(|| D::Error::custom("a checksum has 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Checksum, is_name};

    #[test]
    fn names_that_leave_a_folder_are_known() {
        for name in ["config.json", "additional_chat_templates/tool_use.jinja", "a", ".b"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(201);
        for name in
            ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "a\\b", "C:a", "é", "a b", &long]
        {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn checksums_are_read_back() {
        let checksum = Checksum::of(b"some bytes");
        let text = serde_json::to_string(&checksum).unwrap();
        assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), checksum);
        for bad in ["\"\"", "\"+123456789012345678901234567890ab\"", "\"0g\"", "1", "[]"] {
            assert!(serde_json::from_str::<Checksum>(bad).is_err(), "{bad}");
        }
    }
}
