//! Metadata values, and how they are read from the part of a header that is in memory.

use std::fmt;

/// The type of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ValueKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueKind {
    /// By the number in the file.
    pub(super) fn of(number: u32) -> Option<Self> {
        const ALL: [ValueKind; 13] = [
            ValueKind::U8,
            ValueKind::I8,
            ValueKind::U16,
            ValueKind::I16,
            ValueKind::U32,
            ValueKind::I32,
            ValueKind::F32,
            ValueKind::Bool,
            ValueKind::String,
            ValueKind::Array,
            ValueKind::U64,
            ValueKind::I64,
            ValueKind::F64,
        ];
        ALL.get(number as usize).copied()
    }

    /// Bytes of a value of a fixed size, or the fewest bytes of any other.
    pub(super) fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }

    /// Whether all values of the type have the same size.
    pub(super) fn is_fixed(self) -> bool {
        !matches!(self, Self::String | Self::Array)
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::U8 => "an unsigned 8-bit integer",
            Self::I8 => "a signed 8-bit integer",
            Self::U16 => "an unsigned 16-bit integer",
            Self::I16 => "a signed 16-bit integer",
            Self::U32 => "an unsigned 32-bit integer",
            Self::I32 => "a signed 32-bit integer",
            Self::F32 => "a float32",
            Self::Bool => "a boolean",
            Self::String => "a string",
            Self::Array => "an array",
            Self::U64 => "an unsigned 64-bit integer",
            Self::I64 => "a signed 64-bit integer",
            Self::F64 => "a float64",
        })
    }
}

/// A metadata value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    #[must_use]
    pub fn kind(self) -> ValueKind {
        match self {
            Self::U8(_) => ValueKind::U8,
            Self::I8(_) => ValueKind::I8,
            Self::U16(_) => ValueKind::U16,
            Self::I16(_) => ValueKind::I16,
            Self::U32(_) => ValueKind::U32,
            Self::I32(_) => ValueKind::I32,
            Self::F32(_) => ValueKind::F32,
            Self::Bool(_) => ValueKind::Bool,
            Self::String(_) => ValueKind::String,
            Self::Array(_) => ValueKind::Array,
            Self::U64(_) => ValueKind::U64,
            Self::I64(_) => ValueKind::I64,
            Self::F64(_) => ValueKind::F64,
        }
    }

    /// An integer of any width that is not negative.
    #[must_use]
    pub fn as_count(self) -> Option<u64> {
        match self {
            Self::U8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::U64(x) => Some(x),
            Self::I8(x) => x.try_into().ok(),
            Self::I16(x) => x.try_into().ok(),
            Self::I32(x) => x.try_into().ok(),
            Self::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// A string.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::String(x) => Some(x),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(x) => Some(x),
            _ => None,
        }
    }

    /// An array.
    #[must_use]
    pub fn as_array(self) -> Option<Array<'a>> {
        match self {
            Self::Array(x) => Some(x),
            _ => None,
        }
    }
}

/// An array of values of one type. Its values are read as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    pub(super) kind: ValueKind,
    pub(super) len: u64,
    /// The values as they are stored.
    pub(super) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The type of each value.
    #[must_use]
    pub fn kind(self) -> ValueKind {
        self.kind
    }

    /// The number of values.
    #[must_use]
    pub fn len(self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The values, in their order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut cursor = Cursor::new(self.bytes, 0);
        // All values were checked when the file was opened.
        (0..self.len).map_while(move |_| cursor.value(self.kind, 0).ok())
    }

    /// The values, where they are strings.
    pub fn strings(self) -> impl Iterator<Item = &'a str> {
        self.iter().filter_map(Value::as_str)
    }
}

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
