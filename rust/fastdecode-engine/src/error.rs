//! The engine's errors: everything that a model's files or a caller's values can be refused for.

use fastdecode_simd::memory::Refused;
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::gguf;
use crate::packed_error::PackedError;
use thiserror::Error;

/// Why the engine refuses a call, before any work is done or memory taken.
///
/// A message names the thing, its value and the fix. The tokens of a sequence are `tokens[index]`; a
/// caller that knows them by another name has [`Error::naming`].
#[derive(Debug, Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file that another program has changed or cut since it was opened.
    #[error(
        "{path} was changed or cut while it was read; load the model again once nothing writes to it"
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A configuration that is not JSON, or lacks a number.
    #[error("{path} is not the configuration of a {kind} model: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The model's type.
        kind: String,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// A file whose contents cannot be used.
    #[error("{path}: {source}")]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// A configuration of a model that this engine cannot run, or an impossible one.
    #[error("{name}={value} in the configuration: {need}")]
    Config {
        /// The field.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be, or why it is refused.
        need: Cow<'static, str>,
    },
    /// Weights that are not a whole safetensors file.
    #[error("the weights are damaged or incomplete: {0}; take the checkpoint again")]
    Format(String),
    /// A missing tensor.
    #[error("the weights have no tensor {0:?}; take the checkpoint again")]
    Missing(String),
    /// A tensor of another shape.
    #[error(
        "the weights' tensor {name:?} has shape {got:?}, and the configuration asks for {expected:?}"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor of a type that this engine does not read.
    #[error(
        "the weights' tensor {name:?} is {got}; this engine reads float32, float16 and bfloat16"
    )]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        got: String,
    },
    /// An unknown number format.
    #[error(
        "dtype={value:?}; give \"float32\", \"bfloat16\", \"bfloat16_weights\", \"int8\" or \"int4\", or \
         for a GGUF file \"gguf\""
    )]
    UnknownDtype {
        /// The name given.
        value: String,
    },
    /// An unknown number format of the KV cache.
    #[error("kv_cache_dtype={value:?}; give \"float32\", \"bfloat16\" or \"int8\"")]
    UnknownCacheDtype {
        /// The name given.
        value: String,
    },
    /// A weight that is NaN or infinite.
    #[error("the weights are damaged: {name:?} has values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// Memory that cannot be allocated.
    #[error(transparent)]
    Memory(#[from] Refused),
    /// A token outside the vocabulary.
    #[error(
        "tokens[{index}] has {token}, which is outside the vocabulary, 0..{}",
        last(*.size)
    )]
    Token {
        /// The index of the sequence.
        index: usize,
        /// The id given.
        token: i64,
        /// Tokens in the vocabulary.
        size: usize,
    },
    /// A sequence without tokens.
    #[error("tokens[{index}] is empty; a sequence begins with at least one token")]
    Empty {
        /// The index of the sequence.
        index: usize,
    },
    /// A prompt that is to become no sequence.
    #[error("repeats[{index}]=0; a prompt becomes at least one sequence")]
    Repeats {
        /// The index of the prompt.
        index: usize,
    },
    /// A sequence longer than the model's context.
    #[error(
        "tokens[{index}] makes a sequence of {length} tokens, but the model's context is {context}"
    )]
    Context {
        /// The index of the sequence.
        index: usize,
        /// The tokens that it would have.
        length: usize,
        /// The most that the model has positions for.
        context: usize,
    },
    /// An argument with a number of entries other than that of the sequences.
    #[error("{name} has {got} entries for {sequences} rows; give one a row")]
    Length {
        /// The argument.
        name: &'static str,
        /// Entries given.
        got: usize,
        /// Sequences.
        sequences: usize,
    },
    /// An index out of range.
    #[error("rows[{index}]={row} is outside 0..{}", last(*.sequences))]
    Row {
        /// Its place in the argument.
        index: usize,
        /// The index given.
        row: i64,
        /// The number of sequences.
        sequences: usize,
    },
    /// A length that a sequence cannot be cut back to.
    #[error(
        "{name}={length} is outside 0..={tokens}, the lengths that a sequence of {tokens} tokens can be \
         cut back to"
    )]
    Truncate {
        /// The argument.
        name: String,
        /// The length given.
        length: i128,
        /// The tokens of the sequence.
        tokens: usize,
    },
    /// A length that a sequence of a model with windows can no longer be cut back to.
    #[error(
        "{name}={length}: layers with a window have given back what a sequence of {tokens} tokens needs to go \
         on from there; cut it back to at least {shortest} tokens, or to 0 and give its tokens again"
    )]
    Slid {
        /// The argument.
        name: String,
        /// The length given.
        length: i128,
        /// The tokens of the sequence.
        tokens: usize,
        /// The least length, beside zero, that it can be cut back to.
        shortest: usize,
    },
    /// A GGUF file that is damaged, or that this engine cannot use.
    #[error(transparent)]
    Gguf(gguf::Error),
    /// A packed file that is damaged, or that this version cannot use.
    #[error(transparent)]
    Packed(#[from] PackedError),
    /// An environment variable with a value that cannot be used.
    #[error(transparent)]
    Setting(#[from] fastdecode_simd::SettingError),
}

/// What kind of error an [`Error`] is, for callers whose language has a type for each.
#[derive(Debug, Clone, Copy)]
pub enum ErrorKind<'a> {
    /// A value out of its range, or a file with contents that cannot be used.
    Value,
    /// An index of something that does not exist.
    Index,
    /// Memory that the system refuses.
    Memory,
    /// A file that cannot be read.
    File {
        /// The file.
        path: &'a Path,
        /// The reason.
        source: &'a io::Error,
    },
}

impl Error {
    /// Memory that was refused, as refused for the weights of a model; any other error as it is.
    pub(crate) fn of_weights(self) -> Self {
        match self {
            Self::Memory(refused) => Self::Memory(refused.for_weights()),
            other => other,
        }
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind<'_> {
        match self {
            // A file's length decides how much memory reading it takes.
            Self::File { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                ErrorKind::Memory
            }
            Self::File { path, source } => ErrorKind::File { path, source },
            Self::In { source, .. } => source.kind(),
            Self::Memory(_) => ErrorKind::Memory,
            Self::Row { .. } => ErrorKind::Index,
            Self::Changed { .. }
            | Self::Json { .. }
            | Self::Config { .. }
            | Self::Format(_)
            | Self::Missing(_)
            | Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::UnknownDtype { .. }
            | Self::UnknownCacheDtype { .. }
            | Self::NotFinite { .. }
            | Self::Token { .. }
            | Self::Empty { .. }
            | Self::Repeats { .. }
            | Self::Context { .. }
            | Self::Length { .. }
            | Self::Truncate { .. }
            | Self::Slid { .. }
            | Self::Gguf(_)
            | Self::Packed(_)
            | Self::Setting(_) => ErrorKind::Value,
        }
    }

    /// What a failed read of a file is: memory may be refused for its contents.
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// An error of the GGUF file at `path`. Memory for its contents is memory for the weights of a model.
    #[must_use]
    pub fn gguf(error: gguf::Error, path: &Path) -> Self {
        match error {
            gguf::Error::Read { source, .. } => Self::File { path: path.to_owned(), source },
            gguf::Error::Memory(refused) => refused.for_weights().into(),
            error => Self::Gguf(error).within(path),
        }
    }

    /// The same error with the file that has the contents it is about, where it has none yet.
    pub(crate) fn within(self, path: &Path) -> Self {
        match self {
            Self::Config { .. }
            | Self::Format(_)
            | Self::Missing(_)
            | Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::UnknownDtype { .. }
            | Self::Gguf(_)
            | Self::Packed(_)
            | Self::NotFinite { .. } => Self::In { path: path.to_owned(), source: Box::new(self) },
            _ => self,
        }
    }

    /// The message with another name for the tokens of a sequence, made from its index.
    #[must_use]
    pub fn naming(&self, name: impl FnOnce(usize) -> String) -> String {
        let message = self.to_string();
        match *self {
            Self::Token { index, .. } | Self::Empty { index } | Self::Context { index, .. } => {
                message.replacen(&format!("tokens[{index}]"), &name(index), 1)
            }
            _ => message,
        }
    }
}

/// The last of `count` indices.
fn last(count: usize) -> usize {
    count.saturating_sub(1)
}

/// The engine's results.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind};
    use crate::gguf;
    use fastdecode_simd::memory::Refused;
    use std::io;
    use std::path::Path;

    #[test]
    fn contents_are_named_by_their_file() {
        let path = Path::new("model.safetensors");
        let error = Error::Missing("wte.weight".into()).within(path);
        let message = "model.safetensors: the weights have no tensor \"wte.weight\"; take the checkpoint again";
        assert_eq!(error.to_string(), message);
        assert!(matches!(error.kind(), ErrorKind::Value));
        assert_eq!(error.within(path).to_string(), message);
        assert_eq!(
            Error::Empty { index: 0 }.within(path).to_string(),
            Error::Empty { index: 0 }.to_string()
        );
    }

    #[test]
    fn memory_for_a_file_is_that_of_a_model() {
        let refused = gguf::Error::Memory(Refused::by_the_system(1_000));
        let message = Error::gguf(refused, Path::new("x.gguf")).to_string();
        assert_eq!(message, Refused::by_the_system(1_000).for_weights().to_string());
        for (source, memory) in
            [(io::ErrorKind::OutOfMemory, true), (io::ErrorKind::NotFound, false)]
        {
            let error = Error::file(Path::new("config.json"), source.into());
            assert_eq!(matches!(error.kind(), ErrorKind::Memory), memory, "{source}");
        }
    }

    #[test]
    fn tokens_can_be_named_anew() {
        for error in [
            Error::Token { index: 3, token: 9, size: 5 },
            Error::Empty { index: 3 },
            Error::Context { index: 3, length: 9, context: 5 },
        ] {
            let message = error.to_string();
            assert_eq!(message.matches("tokens[3]").count(), 1);
            let named = error.naming(|index| format!("prompts[{index}]"));
            assert_eq!(named, message.replace("tokens[3]", "prompts[3]"));
        }
        let repeats = Error::Repeats { index: 3 };
        assert_eq!(repeats.naming(|_| unreachable!()), repeats.to_string());
    }
}
