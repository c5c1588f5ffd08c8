//! The elements of a tensor, wherever they are: in memory, or still in a file.

use super::file::WeightsFile;
use crate::error::Result;
use crate::gguf::{self, Weight, widen_halves};
use fastdecode_simd::{DisjointSlice, Session, memory};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A tensor's elements, row-major. All formats are widened to float32 exactly.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// float32
    F32(&'a [f32]),
    /// float16
    F16(&'a [f16]),
    /// bfloat16, as its bits
    BF16(&'a [u16]),
    /// Little-endian, anywhere in memory; the length is that of whole elements.
    Bytes(Encoding, &'a [u8]),
    /// Little-endian, in a file; they are read when they are packed.
    File {
        /// The file.
        file: &'a WeightsFile,
        /// How an element is stored.
        encoding: Encoding,
        /// The first byte.
        start: u64,
        /// The number of elements.
        count: usize,
    },
    /// In a GGUF file; they are read when they are packed.
    Gguf {
        /// The file.
        file: &'a WeightsFile,
        /// The tensor.
        weight: &'a Weight<'a>,
        /// The first element.
        start: usize,
        /// The number of elements.
        count: usize,
        /// Whether they are in the order of the file, which differs where a matrix is transposed there.
        stored: bool,
    },
}

/// How an element is stored in a file, in little-endian order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// float32
    F32,
    /// float16
    F16,
    /// bfloat16
    BF16,
}

impl Encoding {
    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// Bytes of a file that one task reads.
const PIECE: usize = 1 << 20;

impl<'a> Elements<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::BF16(x) => x.len(),
            Self::Bytes(encoding, x) => x.len() / encoding.size(),
            Self::File { count, .. } | Self::Gguf { count, .. } => count,
        }
    }

    /// Bytes that [`Elements::in_memory`] needs for what it reads from a file.
    pub(super) fn bytes_in_file(self) -> usize {
        match self {
            Self::File { encoding, count, .. } => count.saturating_mul(encoding.size()),
            Self::Gguf { count, .. } => count.saturating_mul(Encoding::F32.size()),
            _ => 0,
        }
    }

    /// The file that they are in.
    pub(super) fn file(self) -> Option<&'a WeightsFile> {
        match self {
            Self::File { file, .. } | Self::Gguf { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The elements in `range`.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(x) => Self::F32(&x[range]),
            Self::F16(x) => Self::F16(&x[range]),
            Self::BF16(x) => Self::BF16(&x[range]),
            Self::Bytes(encoding, x) => {
                let size = encoding.size();
                Self::Bytes(encoding, &x[range.start * size..range.end * size])
            }
            Self::File { file, encoding, start, count } => {
                assert!(range.start <= range.end && range.end <= count);
                let start = start + (range.start * encoding.size()) as u64;
                Self::File { file, encoding, start, count: range.len() }
            }
            Self::Gguf { file, weight, start, count, stored } => {
                assert!(range.start <= range.end && range.end <= count);
                Self::Gguf { file, weight, start: start + range.start, count: range.len(), stored }
            }
        }
    }

    /// The same matrix as outputs by inputs, if it has inputs by outputs only because its rows are put
    /// together from a file that has them so.
    pub(super) fn as_stored(self) -> Option<Self> {
        match self {
            Self::Gguf { file, weight, start: 0, count, stored: false }
                if weight.is_transposed() =>
            {
                Some(Self::Gguf { file, weight, start: 0, count, stored: true })
            }
            _ => None,
        }
    }

    /// How a GGUF file stores them, if they are those of a matrix whose outputs lie one after the other there.
    pub(super) fn in_gguf(self) -> Option<gguf::Encoding> {
        match self {
            Self::Gguf { weight, stored, .. } if stored || !weight.is_transposed() => {
                Some(weight.encoding())
            }
            _ => None,
        }
    }

    /// The blocks that the elements have in a GGUF file, if [`Elements::in_gguf`] says how they are stored:
    /// whole outputs, in the engine's order.
    pub(super) fn blocks<'b>(
        self,
        to: &'b mut Vec<u8>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>> {
        let Self::Gguf { file, weight, start, count, .. } = self else { return Ok(None) };
        weight.blocks(start, count, to, buffer).map(Some).map_err(|error| file.failed(error))
    }

    /// The elements as float32; those of a file are read by way of `buffer`, by this thread.
    pub(super) fn widen(self, to: &mut [f32], buffer: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::File { file, encoding, start, .. } => {
                let bytes = memory::room(buffer, self.bytes_in_file())?;
                file.read(start, bytes)?;
                Elements::Bytes(encoding, bytes).read(0, to);
            }
            Self::Gguf { file, weight, start, stored, .. } => {
                let read = if stored { Weight::read_stored } else { Weight::read };
                read(weight, start, to, buffer).map_err(|error| file.failed(error))?;
            }
            _ => self.read(0, to),
        }
        Ok(())
    }

    /// The same elements in memory: those of a file are read into `buffer`, by all threads of a session.
    pub(super) fn in_memory<'b>(
        self,
        buffer: &'b mut Vec<u8>,
        session: &mut Session<'_>,
    ) -> Result<Elements<'b>>
    where
        'a: 'b,
    {
        if let Self::Gguf { count, .. } = self {
            let mut values = memory::filled(0.0, count)?;
            self.widen(&mut values, &mut Vec::new())?;
            let bytes = memory::room(buffer, self.bytes_in_file())?;
            for (to, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *to = value.to_le_bytes();
            }
            return Ok(Elements::Bytes(Encoding::F32, bytes));
        }
        let Self::File { file, encoding, start, .. } = self else { return Ok(self) };
        let bytes = memory::room(buffer, self.bytes_in_file())?;
        let size = bytes.len();
        let failure = Mutex::new(None);
        let pieces = DisjointSlice::new(bytes);
        session.run(size.div_ceil(PIECE), |task| {
            let first = task * PIECE;
            // SAFETY: pieces do not overlap, and each is one task's.
            let to = unsafe { pieces.part(first..size.min(first + PIECE)) };
            if let Err(error) = file.read(start + first as u64, to) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        match failure.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(Elements::Bytes(encoding, bytes)),
        }
    }

    /// Elements `start..start + to.len()` as float32.
    ///
    /// # Panics
    /// If they are in a file.
    #[inline]
    pub(super) fn read(self, start: usize, to: &mut [f32]) {
        fn widen<T: Copy>(from: &[T], start: usize, to: &mut [f32], one: impl Fn(T) -> f32) {
            for (to, from) in to.iter_mut().zip(&from[start..]) {
                *to = one(*from);
            }
        }
        match self {
            Self::F32(x) => to.copy_from_slice(&x[start..start + to.len()]),
            Self::F16(x) => x[start..start + to.len()].convert_to_f32_slice(to),
            Self::BF16(x) => widen(x, start, to, |x| bf16::from_bits(x).to_f32()),
            Self::Bytes(Encoding::F32, x) => {
                widen(x.as_chunks().0, start, to, f32::from_le_bytes);
            }
            Self::Bytes(Encoding::F16, x) => {
                widen_halves(&x.as_chunks().0[start..start + to.len()], to);
            }
            Self::Bytes(Encoding::BF16, x) => {
                widen(x.as_chunks().0, start, to, |x| bf16::from_le_bytes(x).to_f32());
            }
            Self::File { .. } | Self::Gguf { .. } => {
                unreachable!("elements of a file are read into memory first")
            }
        }
    }
}
