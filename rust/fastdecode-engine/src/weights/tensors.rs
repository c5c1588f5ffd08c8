//! Named tensors, borrowed from wherever they are: a safetensors file, or a model loaded in Python.

use super::elements::{Elements, Encoding};
use super::file::WeightsFile;
use crate::error::{Error, Result};
use fastdecode_simd::memory;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo};
use std::collections::HashMap;

/// One tensor, borrowed.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub elements: Elements<'a>,
}

/// The tensors of a model by name.
///
/// Models may be saved with or without a prefix to every name; the architecture knows which.
#[derive(Debug, Default)]
pub struct Tensors<'a> {
    by_name: HashMap<String, Tensor<'a>>,
    /// The types of tensors that this engine cannot read.
    unread: HashMap<String, String>,
}

/// Bytes before the header of a safetensors file: its length.
const BEFORE: u64 = 8;
/// The longest header, in bytes, that readers of safetensors accept.
const LONGEST: u64 = 100_000_000;

impl<'a> Tensors<'a> {
    /// From the bytes of a safetensors file. Nothing is copied.
    ///
    /// # Errors
    /// If the bytes are not a whole safetensors file.
    pub fn from_safetensors(bytes: &'a [u8]) -> Result<Self> {
        let length = header_length(bytes, bytes.len() as u64)?;
        let (header, data) = bytes[BEFORE as usize..].split_at(length);
        Self::from_header(header, data.len() as u64, |encoding, info| {
            let (start, end) = info.data_offsets;
            Elements::Bytes(encoding, &data[start..end])
        })
    }

    /// From an open safetensors file. Its header is read now, and each tensor when it is packed.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a whole safetensors file.
    pub fn from_file(file: &'a WeightsFile) -> Result<Self> {
        let mut length = [0; BEFORE as usize];
        let present = file.length().min(BEFORE) as usize;
        file.read(0, &mut length[..present])?;
        let length = header_length(&length[..present], file.length())?;
        let mut header = Vec::new();
        let header = memory::room(&mut header, length)?;
        file.read(BEFORE, header)?;
        let first = BEFORE + length as u64;
        Self::from_header(header, file.length() - first, |encoding, info| {
            let (start, end) = info.data_offsets;
            let (start, count) = (first + start as u64, (end - start) / encoding.size());
            Elements::File { file, encoding, start, count }
        })
    }

    /// From a header, and the length of the data after it.
    fn from_header(
        header: &[u8],
        data: u64,
        elements: impl Fn(Encoding, &TensorInfo) -> Elements<'a>,
    ) -> Result<Self> {
        let text = std::str::from_utf8(header)
            .map_err(|error| damaged(&SafeTensorError::InvalidHeader(error)))?;
        // This checks that each tensor has the bytes of its shape, one tensor right after the other.
        let header: Metadata = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                Error::Format(error.to_string())
            } else {
                damaged(&SafeTensorError::InvalidHeaderDeserialization(error))
            }
        })?;
        if header.data_len() as u64 != data {
            return Err(damaged(&SafeTensorError::MetadataIncompleteBuffer));
        }
        let mut tensors = Self::default();
        for (name, info) in header.tensors() {
            let encoding = match info.dtype {
                Stored::F32 => Encoding::F32,
                Stored::F16 => Encoding::F16,
                Stored::BF16 => Encoding::BF16,
                other => {
                    tensors.unread.insert(name, format!("{other:?}"));
                    continue;
                }
            };
            let elements = elements(encoding, info);
            tensors.by_name.insert(name, Tensor { shape: info.shape.clone(), elements });
        }
        Ok(tensors)
    }

    /// Adds the tensors of another file that `keep` holds for.
    pub(super) fn extend(&mut self, other: Self, keep: impl Fn(&str) -> bool) {
        self.by_name.extend(other.by_name.into_iter().filter(|(name, _)| keep(name)));
        self.unread.extend(other.unread.into_iter().filter(|(name, _)| keep(name)));
    }

    /// Adds a tensor.
    pub fn insert(&mut self, name: &str, tensor: Tensor<'a>) {
        self.by_name.insert(name.to_owned(), tensor);
    }

    /// Whether there is a tensor `name`, or `prefix` and `name`.
    pub(crate) fn has(&self, prefix: &str, name: &str) -> bool {
        let known = |name: &str| self.by_name.contains_key(name) || self.unread.contains_key(name);
        known(name) || known(&format!("{prefix}{name}"))
    }

    /// The tensor `name`, or else `prefix` and `name`, if it has this shape.
    pub(crate) fn get(&self, prefix: &str, name: &str, shape: &[usize]) -> Result<&Tensor<'a>> {
        let prefixed = format!("{prefix}{name}");
        let found = |name: &str| self.by_name.get(name);
        let Some(tensor) = found(name).or_else(|| found(&prefixed)) else {
            return Err(match self.unread.get(name).or_else(|| self.unread.get(&prefixed)) {
                Some(got) => Error::Dtype { name: name.to_owned(), got: got.clone() },
                None => Error::Missing(name.to_owned()),
            });
        };
        let size = shape.iter().try_fold(1usize, |size, &n| size.checked_mul(n));
        if tensor.shape != shape || size != Some(tensor.elements.len()) {
            return Err(Error::Shape {
                name: name.to_owned(),
                got: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        Ok(tensor)
    }
}

/// The length of the header of a safetensors file that begins with `first` and has `length` bytes.
fn header_length(first: &[u8], length: u64) -> Result<usize> {
    let Some(header) = first.first_chunk() else {
        return Err(damaged(&SafeTensorError::HeaderTooSmall));
    };
    let header = u64::from_le_bytes(*header);
    if header > LONGEST {
        return Err(damaged(&SafeTensorError::HeaderTooLarge));
    }
    if header > length - BEFORE {
        return Err(damaged(&SafeTensorError::InvalidHeaderLength));
    }
    Ok(header as usize)
}

fn damaged(error: &SafeTensorError) -> Error {
    Error::Format(error.to_string())
}
