//! The architectures that the engine runs. Each is one file and one line of [`ARCHITECTURES`]: its
//! configuration, the names of its tensors, and its forward pass.

mod gpt2;

use crate::cache::{Reserved, Shape};
use crate::error::{Error, Result};
use crate::ops::{PassRows, Run};
use crate::weights::{Format, Packing};
use crate::workspace::Buffers;
use serde::Deserialize;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// Reads the configuration of one architecture.
type Read = fn(&[u8]) -> serde_json::Result<Arc<dyn Architecture>>;

/// By the `model_type` of transformers' `config.json`.
const ARCHITECTURES: &[(&str, Read)] = &[("gpt2", gpt2::read)];
/// The architecture of a configuration without `model_type`.
const DEFAULT: &str = "gpt2";

/// A configuration of one architecture.
pub(crate) trait Architecture: Debug + Send + Sync {
    /// Checks whether the engine computes what the configuration means.
    fn check(&self) -> Result<()>;
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
        }
        let json = |source| Error::Json { path: path.to_owned(), source };
        let kind: Kind = serde_json::from_slice(text).map_err(json)?;
        let kind = kind.model_type.unwrap_or_else(|| DEFAULT.into());
        let Some((_, read)) = ARCHITECTURES.iter().find(|(name, _)| *name == kind) else {
            return Err(Error::Config {
                name: "model_type",
                value: kind,
                need: "this engine computes plain GPT-2 only; use engine=\"torch\"",
            });
        };
        let architecture = read(text).map_err(json)?;
        architecture.check()?;
        Ok(Self(architecture))
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
