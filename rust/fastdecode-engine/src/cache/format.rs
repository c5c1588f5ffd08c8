//! The number formats of keys and values.

use crate::error::{Error, Result};
use std::str::FromStr;

/// The number format of the KV cache.
///
/// Each key and each value is rounded by itself when it is appended, so a cache that is forked, cut back or
/// filled token by token holds the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheFormat {
    /// Single precision.
    #[default]
    Float32,
    /// Rounded to bfloat16. Everything is computed in float32, as with a float32 cache of the same values.
    BFloat16,
    /// Integers in -127..=127 with one scale for each key and each value of a head, its largest absolute value
    /// divided by 127.
    Int8,
}

impl CacheFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Float32, Self::BFloat16, Self::Int8];

    /// Its name: "float32", "bfloat16" or "int8".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::BFloat16 => "bfloat16",
            Self::Int8 => "int8",
        }
    }

    /// The number of its definition, "int8/1": what is stored and computed in it, to the bit. It is raised
    /// whenever a golden digest changes, as that of a weight format is.
    #[must_use]
    pub fn definition(self) -> &'static str {
        match self {
            Self::Float32 => "float32/1",
            Self::BFloat16 => "bfloat16/1",
            Self::Int8 => "int8/1",
        }
    }
}

impl FromStr for CacheFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownCacheDtype { value: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::CacheFormat;

    #[test]
    fn names_are_read_back() {
        for format in CacheFormat::ALL {
            assert_eq!(format.name().parse::<CacheFormat>().unwrap(), format);
            assert!(format.definition().starts_with(&format!("{}/", format.name())));
        }
        let message = "int4".parse::<CacheFormat>().unwrap_err().to_string();
        assert_eq!(message, "kv_cache_dtype=\"int4\"; give \"float32\", \"bfloat16\" or \"int8\"");
    }
}
