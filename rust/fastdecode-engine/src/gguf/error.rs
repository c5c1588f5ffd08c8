//! Why a GGUF file is refused.

use super::encoding::Encoding;
use super::value::ValueKind;
use fastdecode_simd::memory::Refused;
use std::fmt;
use std::io;

/// Where in a header something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The first 24 bytes.
    Beginning,
    /// The key of a metadata entry, by the number of the entry.
    Key(u64),
    /// The value of a metadata key.
    Value(String),
    /// The name of a tensor, by the number of the tensor.
    TensorName(u64),
    /// The description of a tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => to.write_str("the header"),
            Self::Key(index) => write!(to, "the key of metadata entry {index}"),
            Self::Value(key) => write!(to, "the metadata key {key:?}"),
            Self::TensorName(index) => write!(to, "the name of tensor {index}"),
            Self::Tensor(name) => write!(to, "the tensor {name:?}"),
        }
    }
}

/// Why a GGUF file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system cannot read the file.
    #[error("byte {offset} of the file cannot be read: {source}")]
    Read {
        /// Where reading began.
        offset: u64,
        /// The reason.
        source: io::Error,
    },
    /// Memory that cannot be allocated. A request is never larger than the file.
    #[error(transparent)]
    Memory(#[from] Refused),
    /// The file begins with other bytes than a GGUF file does.
    #[error("this is not a GGUF file: it begins with {found:?} where \"GGUF\" is expected")]
    Magic {
        /// The first four bytes, as text where they are text.
        found: String,
    },
    /// A file for big-endian machines.
    #[error(
        "this GGUF file is big-endian, and only little-endian ones are read; convert the model again \
         without llama.cpp's option --bigendian"
    )]
    BigEndian,
    /// A version of the container other than 2 and 3.
    #[error("this GGUF file has version {version} of the container, and versions 2 and 3 are read")]
    Version {
        /// The version.
        version: u32,
    },
    /// The file ends before something that its header announces.
    #[error(
        "{place}, at byte {offset}, needs {needed} bytes, and the file has {left} from there; download \
         the file again"
    )]
    Truncated {
        /// What is incomplete.
        place: Place,
        /// Where it begins.
        offset: u64,
        /// The bytes that it needs at least.
        needed: u64,
        /// The bytes from `offset` to the end of the file.
        left: u64,
    },
    /// More metadata keys or tensors than fit in the file.
    #[error(
        "byte {offset} announces {count} {what}, and the file has room for {most} at most; download the \
         file again"
    )]
    Count {
        /// "metadata keys" or "tensors".
        what: &'static str,
        /// Where the number stands.
        offset: u64,
        /// The number.
        count: u64,
        /// The most that can be.
        most: u64,
    },
    /// A string that is not UTF-8.
    #[error("{place} has text at byte {offset} that is not UTF-8")]
    Text {
        /// What has the text.
        place: Place,
        /// Where the text begins.
        offset: u64,
    },
    /// A value whose type does not exist.
    #[error("{place} has a value of type {number} at byte {offset}; types are numbered 0 to 12")]
    UnknownType {
        /// What has the value.
        place: Place,
        /// Where the type stands.
        offset: u64,
        /// The type.
        number: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{place} has a boolean at byte {offset} that is {value}, and neither 0 nor 1")]
    Boolean {
        /// What has the value.
        place: Place,
        /// Where the value stands.
        offset: u64,
        /// The value.
        value: u8,
    },
    /// Arrays within arrays, many times over.
    #[error("{place} has arrays within arrays at byte {offset}, more than {most} levels of them")]
    Nested {
        /// What has the value.
        place: Place,
        /// Where the innermost array begins.
        offset: u64,
        /// The most levels that are read.
        most: usize,
    },
    /// Two metadata entries of the same key.
    #[error("the metadata key {key:?} occurs twice, the second time at byte {offset}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the later entry begins.
        offset: u64,
    },
    /// Two tensors of the same name.
    #[error("the tensor {name:?} occurs twice, the second time at byte {offset}")]
    DuplicateTensor {
        /// The name.
        name: String,
        /// Where the later description begins.
        offset: u64,
    },
    /// An alignment of the tensors that is not a power of two.
    #[error(
        "general.alignment is {found}; it must be a power of two, as an unsigned 32-bit integer"
    )]
    Alignment {
        /// The value, or its type.
        found: String,
    },
    /// A tensor of more dimensions than there can be.
    #[error("the tensor {name:?} has {count} dimensions at byte {offset}; there can be 4")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Where the number of dimensions stands.
        offset: u64,
        /// The number.
        count: u32,
    },
    /// A dimension of zero.
    #[error("the tensor {name:?} at byte {offset} has no elements: its sizes are {sizes:?}")]
    NoElements {
        /// The tensor.
        name: String,
        /// Where the sizes stand.
        offset: u64,
        /// The sizes, as they are stored.
        sizes: Vec<u64>,
    },
    /// A tensor with more elements than a computer can count.
    #[error("the tensor {name:?} at byte {offset} is too large: its sizes are {sizes:?}")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Where the sizes stand.
        offset: u64,
        /// The sizes, as they are stored.
        sizes: Vec<u64>,
    },
    /// A tensor stored in a way that is unknown.
    #[error(
        "the tensor {name:?} has type {number} at byte {offset}, which this version of fastdecode does not \
         know; take a file of the model in one of these: {}",
        Encoding::readable()
    )]
    UnknownEncoding {
        /// The tensor.
        name: String,
        /// Where the type stands.
        offset: u64,
        /// The type's number in ggml.
        number: u32,
    },
    /// A tensor whose rows are not whole blocks.
    #[error(
        "the tensor {name:?} has rows of {width} elements, which are not whole blocks of {block}, as \
         {encoding} needs"
    )]
    Blocks {
        /// The tensor.
        name: String,
        /// Elements of a row.
        width: u64,
        /// How it is stored.
        encoding: Encoding,
        /// Elements of a block.
        block: u64,
    },
    /// A tensor at a place that the alignment does not allow.
    #[error(
        "the tensor {name:?} begins {offset} bytes into the tensors' data, which is not a multiple of the \
         file's alignment, {alignment}"
    )]
    Unaligned {
        /// The tensor.
        name: String,
        /// Its offset in the tensors' data.
        offset: u64,
        /// The alignment.
        alignment: u64,
    },
    /// Two tensors that share bytes.
    #[error(
        "the tensors {first:?} and {second:?} overlap at byte {offset}; convert the model again"
    )]
    Overlap {
        /// One of the tensors.
        first: String,
        /// The other.
        second: String,
        /// Where the second begins.
        offset: u64,
    },
    /// A tensor that the file does not have.
    #[error("the file has no tensor {name:?}")]
    MissingTensor {
        /// The name.
        name: String,
    },
    /// A tensor stored in a way that is known and not read.
    #[error(
        "the tensor {name:?} is stored as {encoding}, which is not read; take a file of the model in one of \
         these, or make one with llama-quantize: {}",
        Encoding::readable()
    )]
    Encoding {
        /// The tensor.
        name: String,
        /// How it is stored.
        encoding: Encoding,
    },
    /// A metadata key that the file lacks and that is needed.
    #[error("the file has no metadata key {key:?}, which is needed to {purpose}")]
    MissingKey {
        /// The key.
        key: String,
        /// What for.
        purpose: &'static str,
    },
    /// A metadata key whose value is of another type than it should be.
    #[error("the metadata key {key:?} is {found}; it must be {expected}")]
    Type {
        /// The key.
        key: String,
        /// What it is.
        found: ValueKind,
        /// What it should be.
        expected: &'static str,
    },
    /// A model of an architecture that is not translated.
    #[error(
        "general.architecture is {name:?}; the native engine reads {known} from GGUF files; load the model \
         that the file was made of instead, from its folder or the hub"
    )]
    Architecture {
        /// The architecture.
        name: String,
        /// Those that are read.
        known: String,
    },
    /// Something about the model that the engine does not compute.
    #[error("{what}: {reason}")]
    Unsupported {
        /// The key, the key and its value, or the tensor.
        what: String,
        /// Why it is refused.
        reason: &'static str,
    },
}

impl Error {
    /// A tensor without dimensions, where a vector or a matrix is needed.
    pub(super) fn scalar(name: &str) -> Self {
        Self::Unsupported {
            what: format!("the tensor {name:?}"),
            reason: "it has no dimensions, and no tensor of a model is a single number",
        }
    }
}

/// What reading a GGUF file gives.
pub type Result<T> = std::result::Result<T, Error>;
