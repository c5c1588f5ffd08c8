//! What is wrong with a packed file.

use thiserror::Error;

/// How every message ends that a new file helps against.
const AGAIN: &str = "make it again with `fastdecode pack MODEL --dtype DTYPE`";

/// Why a file cannot be used as a packed file.
#[derive(Debug, Error)]
pub enum PackedError {
    /// It begins with other bytes.
    #[error("it is not a packed file; make one with `fastdecode pack MODEL --dtype DTYPE`")]
    Foreign,
    /// It has another layout.
    #[error(
        "its layout has version {found}, and this version of fastdecode reads version {known}; {AGAIN}"
    )]
    Layout {
        /// The version of its layout.
        found: u32,
        /// The version that is read.
        known: u32,
    },
    /// It has another length than it says.
    #[error(
        "it has {found} bytes and should have {expected}, so it is incomplete or damaged; {AGAIN}"
    )]
    Length {
        /// The length that it says.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// What is before the weights is not what was written.
    #[error("its header is damaged: {what}; {AGAIN}")]
    Header {
        /// What is wrong.
        what: String,
    },
    /// A part lies outside the file or in another part.
    #[error(
        "its header is damaged: {what} takes {length} bytes from byte {start} on, of which the file does \
         not have all; {AGAIN}"
    )]
    Outside {
        /// The part.
        what: String,
        /// Its first byte.
        start: u64,
        /// Its length.
        length: u64,
    },
    /// It has been packed for another definition of its number format.
    #[error(
        "it was packed as {found}, and this version of fastdecode computes {dtype} as {known}; make it \
         again with `fastdecode pack MODEL --dtype {dtype}`"
    )]
    Definition {
        /// The number format.
        dtype: &'static str,
        /// The definition that it names.
        found: String,
        /// The definition of that format.
        known: &'static str,
    },
    /// Its weights are not those of the model in its configuration.
    #[error(
        "its weights are not described as its configuration needs them, first at {at:?}; {AGAIN}"
    )]
    Contents {
        /// The tensor.
        at: String,
    },
    /// A file that it contains is not what was written.
    #[error("its contents are damaged: the checksum of {part:?} is another one; {AGAIN}")]
    Checksum {
        /// The name of the file in it, or "weights".
        part: String,
    },
    /// It has no file of a name.
    #[error("it contains no {name:?}; {AGAIN}")]
    Missing {
        /// The name.
        name: String,
    },
    /// A file that is to be put into it has a name that it cannot have there.
    #[error(
        "files[{name:?}]: give a relative path of ASCII letters, digits, \".\", \"_\", \"-\" and \"/\""
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A model that is too large for the layout.
    #[error("the weights take {bytes} bytes, and a packed file has room for 256 GiB of them")]
    TooLarge {
        /// Bytes of the weights.
        bytes: usize,
    },
    /// A processor that orders the bytes of a number differently.
    #[error(
        "packed files are for processors that store the lowest byte of a number first, which this one \
         does not"
    )]
    BigEndian,
}

impl PackedError {
    /// A damaged header.
    pub(crate) fn header(what: impl Into<String>) -> Self {
        Self::Header { what: what.into() }
    }
}
