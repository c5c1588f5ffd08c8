//! The architectures that the engine runs. Each is one file and one line of [`ARCHITECTURES`]: its
//! configuration, the names of its tensors, and what its layers consist of. The forward pass is that of
//! `common::decoder`; `common::gated` has what Llama and the families after it have in common.

mod common;
mod gemma3;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod llama;
mod mistral;
mod opt;
mod qwen2;
mod qwen3;
mod smollm3;

use crate::cache::{Reserved, Shape};
use crate::error::{Error, Result};
use crate::ops::{PassRows, Run};
use crate::weights::{Format, GgufModel, Packing};
use crate::workspace::Buffers;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// Reads the configuration of one architecture.
type Read = fn(&[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError>;

/// By the `model_type` of transformers' `config.json`.
const ARCHITECTURES: &[(&str, Read)] = &[
    ("gemma3_text", gemma3::read),
    ("gpt2", gpt2::read),
    ("gpt_neo", gpt_neo::read),
    ("gpt_neox", gpt_neox::read),
    ("llama", llama::read),
    ("mistral", mistral::read),
    ("opt", opt::read),
    ("qwen2", qwen2::read),
    ("qwen3", qwen3::read),
    ("smollm3", smollm3::read),
];
/// The architecture of a configuration without `model_type`.
const DEFAULT: &str = "gpt2";

/// Why a configuration cannot be read.
enum ReadError {
    Json(serde_json::Error),
    /// It means what the engine does not compute.
    Refused(Error),
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A configuration of one architecture, which the engine computes.
pub(crate) trait Architecture: Debug + Send + Sync {
    /// Tokens in the vocabulary: the width of a row of logits.
    fn vocab_size(&self) -> usize;
    /// The most tokens of a sequence.
    fn context(&self) -> usize;
    /// The sizes of the KV cache.
    fn cache_shape(&self) -> Shape;
    /// What the names of the tensors may begin with.
    fn prefix(&self) -> &'static str;
    /// Names the tensors, in the order in which a pass reads them, with large matrices in `format`.
    fn network(&self, weights: &mut Packing<'_>, format: Format) -> Result<Box<dyn Network>>;
}

/// The layers of a model.
pub(crate) trait Network: Send + Sync {
    /// Computes the logits of the rows `pass.wanted`, one after the other.
    ///
    /// # Errors
    /// If the system refuses memory, before anything is written.
    fn forward(&self, pass: Pass<'_, '_>, logits: &mut [f32]) -> Result<()>;

    /// The window of each layer: the most positions that a token attends to, its own among them.
    fn windows(&self) -> Vec<Option<usize>>;
}

/// One forward pass over some new tokens of some sequences.
pub(crate) struct Pass<'a, 'r> {
    pub run: &'a mut Run<'r>,
    pub sequences: &'a mut Reserved<'r>,
    pub rows: &'a PassRows,
    /// The rows whose logits are wanted, upwards.
    pub wanted: &'a [usize],
    pub buffers: &'a mut Buffers,
}

/// The configuration of a model that this engine can run.
#[derive(Debug, Clone)]
pub struct Config(pub(crate) Arc<dyn Architecture>);

impl Config {
    /// From the text of a `config.json`, which was read from `path`.
    ///
    /// # Errors
    /// If it is not JSON, lacks a number, or is the configuration of a model that this engine cannot run.
    pub fn from_json(text: &[u8], path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
            #[serde(flatten)]
            others: Value,
        }
        let path = path.to_owned();
        let json = |kind: &str, source| Error::Json { path, kind: kind.into(), source };
        let (kind, others) = match serde_json::from_slice::<Kind>(text) {
            Ok(found) => (found.model_type.unwrap_or_else(|| DEFAULT.into()), found.others),
            Err(source) => return Err(json("language", source)),
        };
        let Some((_, read)) = ARCHITECTURES.iter().find(|(name, _)| *name == kind) else {
            let names: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
            let need =
                format!("the native engine runs {}; use engine=\"transformers\"", names.join(", "));
            return common::checks::refuse("model_type", kind, need);
        };
        common::unusual::check(&others, &kind)?;
        match read(text) {
            Ok(architecture) => Ok(Self(architecture)),
            Err(ReadError::Json(source)) => Err(json(&kind, source)),
            Err(ReadError::Refused(error)) => Err(error),
        }
    }

    /// That of the model in a GGUF file.
    ///
    /// # Errors
    /// If it is a model that this engine cannot run; the message says why.
    pub fn of_gguf(file: &GgufModel) -> Result<Self> {
        let path = file.path();
        Self::from_json(file.config()?.as_bytes(), path).map_err(|error| error.within(path))
    }

    /// Tokens in the vocabulary: the width of a row of logits.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    /// The most tokens of a sequence.
    #[must_use]
    pub fn context(&self) -> usize {
        self.0.context()
    }
}
