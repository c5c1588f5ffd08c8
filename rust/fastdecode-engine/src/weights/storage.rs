//! What `dtype` says: how the weights of a model are stored in memory.

use super::format::Format;
use crate::error::Result;
use crate::gguf::Encoding;

/// How the matrices of a model are stored in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// All of them in one format, converted from the values that the file gives.
    Converted(Format),
    /// Quantised ones as they are in a GGUF file where that takes no more bits than the format: `Q4_0` and `Q4_1`
    /// for int4, and `Q5_0`, `IQ4_NL` and `Q8_0` as well for int8. All others are converted to the format.
    Kept(Format),
    /// As they are in a GGUF file. `Q4_0` is kept in int4, `Q4_1` in int4 with offsets, `Q5_0`, `IQ4_NL` and
    /// `Q8_0` in int8 in groups, `BF16` in bfloat16 with everything computed in float32, and `F16` and `F32` in float32, all without loss. The
    /// other quantisations, which no format has, are rounded to int8 in groups.
    AsInFile,
}

impl Storage {
    /// By the name that `dtype` has for a model in a GGUF file.
    ///
    /// The definitions "int8/1" and "int4/1" are names as well: they convert all matrices, as the first
    /// versions did when they were asked for "int8" or "int4".
    ///
    /// # Errors
    /// If there is no such name.
    pub fn of_gguf(name: &str) -> Result<Self> {
        let earlier = [Format::Int8, Format::Int4];
        if let Some(format) = earlier.into_iter().find(|format| format.definition() == name) {
            return Ok(Self::Converted(format));
        }
        if name == Self::AsInFile.name() {
            return Ok(Self::AsInFile);
        }
        let format = name.parse()?;
        Ok(if earlier.contains(&format) { Self::Kept(format) } else { Self::Converted(format) })
    }

    /// The name that `dtype` has for it: a format's, or "gguf".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Converted(format) | Self::Kept(format) => format.name(),
            Self::AsInFile => "gguf",
        }
    }

    /// The number of its definition; see [`Format::definition`].
    #[must_use]
    pub fn definition(self) -> &'static str {
        match self {
            Self::Kept(Format::Int8) => "int8-gguf/1",
            Self::Kept(Format::Int4) => "int4-gguf/1",
            Self::Converted(format) | Self::Kept(format) => format.definition(),
            Self::AsInFile => "gguf/1",
        }
    }

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let kept = [Self::Kept(Format::Int8), Self::Kept(Format::Int4), Self::AsInFile];
        Format::ALL.into_iter().map(Self::Converted).chain(kept)
    }

    /// The format that matrices have whose source says nothing.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Converted(format) | Self::Kept(format) => format,
            Self::AsInFile => Format::Float32,
        }
    }

    /// The format of a matrix for which the model has `format`, and whose outputs are stored as these
    /// encodings say; None where they are not in a GGUF file.
    ///
    /// A matrix may be made of several tensors, such as queries, keys and values. Where these would have
    /// several formats, it has the first of these that there is for all of them: int4 with offsets, which holds
    /// `Q4_0` without loss as well; float32, if a part is not quantised and the storage is that of the file;
    /// and int8 in groups, to which parts that it cannot hold are rounded.
    pub(super) fn format_of(
        self,
        format: Format,
        sources: impl Iterator<Item = Option<Encoding>>,
    ) -> Format {
        if let Self::Converted(_) = self {
            return format;
        }
        let mut wanted = sources.map(|encoding| self.wanted(format, encoding));
        let Some(first) = wanted.next() else { return format };
        wanted.fold(first, |all, next| match (all, next) {
            _ if all == next => all,
            (Format::Int4 | Format::Int4Offsets, Format::Int4 | Format::Int4Offsets) => {
                Format::Int4Offsets
            }
            _ if [all, next].iter().any(|format| !format.quantises()) => Format::Float32,
            _ => Format::Int8Groups,
        })
    }

    /// The format for one encoding.
    fn wanted(self, format: Format, encoding: Option<Encoding>) -> Format {
        let kept = encoding.and_then(|encoding| match encoding.name() {
            "Q4_0" => Some(Format::Int4),
            "Q4_1" => Some(Format::Int4Offsets),
            "Q5_0" | "IQ4_NL" | "Q8_0" => Some(Format::Int8Groups),
            _ => None,
        });
        match (self, kept) {
            (Self::Kept(_), Some(Format::Int8Groups)) if format != Format::Int8 => format,
            (Self::Kept(_) | Self::AsInFile, Some(kept)) => kept,
            (Self::AsInFile, None) => match encoding.map(Encoding::name) {
                Some("BF16") => Format::BFloat16Weights,
                Some("F32" | "F16") | None => Format::Float32,
                Some(_) => Format::Int8Groups,
            },
            _ => format,
        }
    }
}

impl From<Format> for Storage {
    fn from(format: Format) -> Self {
        Self::Converted(format)
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoding, Format, Storage};

    fn format(storage: Storage, asked: Format, encodings: &[&str]) -> Format {
        storage.format_of(asked, encodings.iter().map(|name| Encoding::named(name)))
    }

    #[test]
    fn names_and_definitions() {
        for (name, storage, definition) in [
            ("gguf", Storage::AsInFile, "gguf/1"),
            ("int8", Storage::Kept(Format::Int8), "int8-gguf/1"),
            ("int4", Storage::Kept(Format::Int4), "int4-gguf/1"),
            ("float32", Storage::Converted(Format::Float32), "float32/1"),
        ] {
            assert_eq!(Storage::of_gguf(name).unwrap(), storage);
            assert_eq!((storage.name(), storage.definition()), (name, definition));
        }
        for (name, format) in [("int8/1", Format::Int8), ("int4/1", Format::Int4)] {
            let storage = Storage::of_gguf(name).unwrap();
            assert_eq!(storage, Storage::Converted(format));
            assert_eq!(storage.definition(), name);
        }
        assert!(Storage::of_gguf("float32/1").is_err());
        assert!("gguf".parse::<Format>().is_err());
    }

    #[test]
    fn formats_by_encoding() {
        use Format::{BFloat16Weights, Float32, Int4, Int4Offsets, Int8, Int8Groups};
        let kept = [
            ("Q4_0", Int4, Int4, Int4),
            ("Q4_1", Int4Offsets, Int4Offsets, Int4Offsets),
            ("Q8_0", Int8Groups, Int8Groups, Int4),
            ("Q5_0", Int8Groups, Int8Groups, Int4),
            ("IQ4_NL", Int8Groups, Int8Groups, Int4),
            ("Q5_1", Int8Groups, Int8, Int4),
            ("Q4_K", Int8Groups, Int8, Int4),
            ("Q6_K", Int8Groups, Int8, Int4),
            ("BF16", BFloat16Weights, Int8, Int4),
            ("F16", Float32, Int8, Int4),
            ("F32", Float32, Int8, Int4),
        ];
        for (name, in_file, int8, int4) in kept {
            assert_eq!(format(Storage::AsInFile, Float32, &[name]), in_file, "{name}");
            assert_eq!(format(Storage::Kept(Int8), Int8, &[name]), int8, "{name}");
            assert_eq!(format(Storage::Kept(Int4), Int4, &[name]), int4, "{name}");
            assert_eq!(format(Storage::Converted(Int4), Int4, &[name]), Int4, "{name}");
        }
        // The head.
        assert_eq!(format(Storage::Kept(Int4), Int8, &["Q8_0"]), Int8Groups);
        assert_eq!(format(Storage::Kept(Int4), Int8, &["Q6_K"]), Int8);
    }

    #[test]
    fn several_encodings_share_a_format() {
        use Format::{Float32, Int4, Int4Offsets, Int8, Int8Groups};
        for (names, in_file, int8, int4) in [
            (&["Q4_0", "Q4_1", "Q4_0"][..], Int4Offsets, Int4Offsets, Int4Offsets),
            (&["Q4_0", "Q8_0"], Int8Groups, Int8Groups, Int4),
            (&["Q4_1", "Q4_K"], Int8Groups, Int8Groups, Int4Offsets),
            (&["Q4_K", "Q6_K"], Int8Groups, Int8, Int4),
            (&["Q8_0", "F16"], Float32, Int8Groups, Int4),
            (&["BF16", "F16"], Float32, Int8, Int4),
        ] {
            assert_eq!(format(Storage::AsInFile, Float32, names), in_file, "{names:?}");
            assert_eq!(format(Storage::Kept(Int8), Int8, names), int8, "{names:?}");
            assert_eq!(format(Storage::Kept(Int4), Int4, names), int4, "{names:?}");
        }
    }
}
