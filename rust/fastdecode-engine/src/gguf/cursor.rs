//! Reads a header piece by piece from the part of it that is in memory.

use super::value::{Array, Value, ValueKind};

/// Levels of arrays within arrays that are read.
pub(super) const MOST_LEVELS: usize = 8;

/// Why a piece cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The piece at `offset` needs `needed` bytes, which are not in memory.
    More { offset: usize, needed: u64 },
    /// Text that is not UTF-8.
    Text { offset: usize },
    /// A type that does not exist.
    Kind { offset: usize, number: u32 },
    /// A boolean that is neither 0 nor 1.
    Boolean { offset: usize, value: u8 },
    /// Too many levels of arrays.
    Nested { offset: usize },
}

/// A place in the bytes of a header, from which pieces are read.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let found = usize::try_from(count)
            .ok()
            .and_then(|count| self.bytes.get(self.at..self.at.checked_add(count)?))
            .ok_or(Stop::More { offset: self.at, needed: count })?;
        self.at += found.len();
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn string(&mut self) -> Result<&'a str, Stop> {
        let begun = self.at;
        let length = self.u64()?;
        let Ok(bytes) = self.take(length) else {
            return Err(Stop::More { offset: begun, needed: length.saturating_add(8) });
        };
        std::str::from_utf8(bytes).map_err(|_| Stop::Text { offset: begun + 8 })
    }

    pub fn kind(&mut self) -> Result<ValueKind, Stop> {
        let offset = self.at;
        let number = self.u32()?;
        ValueKind::of(number).ok_or(Stop::Kind { offset, number })
    }

    /// The value of a type, within `level` arrays. The values of an array are checked and left where they
    /// are.
    pub fn value(&mut self, kind: ValueKind, level: usize) -> Result<Value<'a>, Stop> {
        Ok(match kind {
            ValueKind::U8 => Value::U8(u8::from_le_bytes(self.array()?)),
            ValueKind::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            ValueKind::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            ValueKind::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            ValueKind::U32 => Value::U32(self.u32()?),
            ValueKind::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            ValueKind::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            ValueKind::Bool => Value::Bool(self.bool()?),
            ValueKind::String => Value::String(self.string()?),
            ValueKind::Array => Value::Array(self.values(level)?),
            ValueKind::U64 => Value::U64(self.u64()?),
            ValueKind::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            ValueKind::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
        })
    }

    fn bool(&mut self) -> Result<bool, Stop> {
        let offset = self.at;
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [value] => Err(Stop::Boolean { offset, value }),
        }
    }

    /// An array, whose values are passed over.
    fn values(&mut self, level: usize) -> Result<Array<'a>, Stop> {
        if level >= MOST_LEVELS {
            return Err(Stop::Nested { offset: self.at });
        }
        let begun = self.at;
        let kind = self.kind()?;
        let len = self.u64()?;
        let least = len.saturating_mul(kind.least_bytes());
        let start = self.at;
        if least > (self.bytes.len() - start) as u64 {
            return Err(Stop::More { offset: begun, needed: least.saturating_add(12) });
        }
        if kind.is_fixed() && kind != ValueKind::Bool {
            self.take(least)?;
        } else {
            for _ in 0..len {
                self.value(kind, level + 1)?;
            }
        }
        Ok(Array { kind, len, bytes: &self.bytes[start..self.at] })
    }
}
