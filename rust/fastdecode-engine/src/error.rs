//! Everything that can be wrong with a model's files or with what a caller asks for.

use std::path::PathBuf;
use thiserror::Error;

/// A refusal, before any work is done or memory taken. The messages name the thing, its value and
/// the fix; the binding passes them on as they are.
#[derive(Debug, Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration that is no JSON, or lacks a number.
    #[error("{path} is no configuration of a GPT-2: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A configuration of another model, or one that makes no sense.
    #[error("{name}={value} in the configuration: {need}")]
    Config {
        /// The field.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be, or why it cannot be.
        need: &'static str,
    },
    /// Weights that are no safetensors file, or a part of one.
    #[error("the weights are damaged or incomplete: {0}; take the checkpoint again")]
    Format(String),
    /// A tensor that should be there.
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
        /// What the configuration says.
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
    /// A type of weights that there is not.
    #[error("dtype={value:?}; give \"float32\", \"bfloat16\" or \"int8\"")]
    UnknownDtype {
        /// What was asked for.
        value: String,
    },
    /// A weight that is NaN or infinite.
    #[error("the weights are damaged: {name:?} has values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// Memory that the system refuses.
    #[error("{bytes} bytes of memory could not be had: {source}")]
    Memory {
        /// How many.
        bytes: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A token outside the vocabulary.
    #[error("tokens[{row}] has {token}, which is outside the vocabulary, 0..{size}")]
    Token {
        /// The row of the batch.
        row: usize,
        /// The id given.
        token: i64,
        /// Tokens in the vocabulary.
        size: usize,
    },
    /// A row without tokens.
    #[error("tokens[{row}] is empty; a row begins with at least one token")]
    Empty {
        /// The row of the batch.
        row: usize,
    },
    /// A prompt that becomes no row.
    #[error("repeats[{row}]=0; a prompt becomes at least one row")]
    Repeats {
        /// The prompt.
        row: usize,
    },
    /// A row beyond the model's context.
    #[error("row {row} comes to {length} tokens, but the model's context is {context}")]
    Context {
        /// The row of the batch.
        row: usize,
        /// Tokens that it would have.
        length: usize,
        /// The most that the model knows positions for.
        context: usize,
    },
    /// Another number of tokens, or of logits, than of rows.
    #[error("{name} has {got} entries for {rows} rows; give one a row")]
    Length {
        /// The argument.
        name: &'static str,
        /// Entries given.
        got: usize,
        /// Rows.
        rows: usize,
    },
    /// A row that is not there.
    #[error("rows[{index}]={row} is outside 0..{rows}")]
    Row {
        /// Where in the argument.
        index: usize,
        /// The row asked for.
        row: i64,
        /// Rows there are.
        rows: usize,
    },
    /// An environment variable with a value that cannot be used.
    #[error(transparent)]
    Setting(#[from] fastdecode_simd::SettingError),
}

/// The engine's results.
pub type Result<T> = std::result::Result<T, Error>;
