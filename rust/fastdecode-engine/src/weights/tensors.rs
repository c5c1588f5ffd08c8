//! Named tensors, borrowed from wherever they are: a safetensors file, or a model loaded in Python.

use crate::error::{Error, Result};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype as Stored;
use std::collections::HashMap;

/// A tensor's elements, row-major. All formats are widened to float32 exactly.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// float32
    F32(&'a [f32]),
    /// float16
    F16(&'a [f16]),
    /// bfloat16, as its bits
    BF16(&'a [u16]),
    /// Little-endian float32, anywhere in memory.
    F32Bytes(&'a [[u8; 4]]),
    /// Little-endian float16, anywhere in memory.
    F16Bytes(&'a [[u8; 2]]),
    /// Little-endian bfloat16, anywhere in memory.
    BF16Bytes(&'a [[u8; 2]]),
}

impl<'a> Elements<'a> {
    /// The bytes, if they belong to a file.
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::F32Bytes(x) => x.as_flattened(),
            Self::F16Bytes(x) | Self::BF16Bytes(x) => x.as_flattened(),
            _ => &[],
        }
    }

    fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::BF16(x) => x.len(),
            Self::F32Bytes(x) => x.len(),
            Self::F16Bytes(x) | Self::BF16Bytes(x) => x.len(),
        }
    }

    /// Elements `start..start + to.len()` as float32.
    #[inline]
    pub(crate) fn read(self, start: usize, to: &mut [f32]) {
        fn widen<T: Copy>(from: &[T], start: usize, to: &mut [f32], one: impl Fn(T) -> f32) {
            for (to, from) in to.iter_mut().zip(&from[start..]) {
                *to = one(*from);
            }
        }
        match self {
            Self::F32(x) => to.copy_from_slice(&x[start..start + to.len()]),
            Self::F16(x) => widen(x, start, to, f16::to_f32),
            Self::BF16(x) => widen(x, start, to, |x| bf16::from_bits(x).to_f32()),
            Self::F32Bytes(x) => widen(x, start, to, f32::from_le_bytes),
            Self::F16Bytes(x) => widen(x, start, to, |x| f16::from_le_bytes(x).to_f32()),
            Self::BF16Bytes(x) => widen(x, start, to, |x| bf16::from_le_bytes(x).to_f32()),
        }
    }
}

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
    map: Option<&'a Mmap>,
}

impl<'a> Tensors<'a> {
    /// From the bytes of a safetensors file. Nothing is copied.
    ///
    /// # Errors
    /// If the bytes are not a whole safetensors file.
    pub fn from_safetensors(bytes: &'a [u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| Error::Format(e.to_string()))?;
        let mut tensors = Self::default();
        for (name, view) in file.iter() {
            // Whole elements: the parser has checked sizes.
            let elements = match view.dtype() {
                Stored::F32 => Elements::F32Bytes(view.data().as_chunks().0),
                Stored::F16 => Elements::F16Bytes(view.data().as_chunks().0),
                Stored::BF16 => Elements::BF16Bytes(view.data().as_chunks().0),
                other => {
                    tensors.unread.insert(name.to_owned(), format!("{other:?}"));
                    continue;
                }
            };
            tensors.insert(name, Tensor { shape: view.shape().to_vec(), elements });
        }
        Ok(tensors)
    }

    /// From a mapped safetensors file, whose pages need not stay in memory once they have been read.
    ///
    /// # Errors
    /// As [`Self::from_safetensors`].
    pub fn from_map(map: &'a Mmap) -> Result<Self> {
        Ok(Self { map: Some(map), ..Self::from_safetensors(map)? })
    }

    /// Notes that `tensor` has been read, so that the pages of the file that it lies on may leave this
    /// process's memory.
    pub(crate) fn forget(&self, tensor: &Tensor<'_>) {
        let bytes = tensor.elements.bytes();
        #[cfg(unix)]
        if let Some(map) = self.map
            && let Some(offset) = bytes.as_ptr().addr().checked_sub(map.as_ptr().addr())
            && offset + bytes.len() <= map.len()
            && !bytes.is_empty()
        {
            // SAFETY: the mapping is shared with the file and only read, so a page that is read again comes
            // back with the same bytes.
            let advised = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len())
            };
            // A system that refuses this keeps the pages in memory.
            drop(advised);
        }
        #[cfg(not(unix))]
        let _ = (self.map, bytes);
    }

    /// Adds a tensor.
    pub fn insert(&mut self, name: &str, tensor: Tensor<'a>) {
        self.by_name.insert(name.to_owned(), tensor);
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
