//! The weights and the configuration in a GGUF file.

use super::elements::Elements;
use super::file::WeightsFile;
use super::tensors::{Tensor, Tensors};
use crate::error::Result;
use crate::gguf::{Gguf, Weight};
use std::path::Path;
use std::sync::Arc;

/// An open GGUF file with a model.
#[derive(Debug)]
pub struct GgufModel {
    file: Arc<WeightsFile>,
    gguf: Gguf,
}

impl GgufModel {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// If it cannot be read, or is no whole GGUF file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(WeightsFile::open(path)?);
        let gguf = Gguf::new(Box::new(Arc::clone(&file))).map_err(|error| file.failed(error))?;
        Ok(Self { file, gguf })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The text of transformers' `config.json` for the model.
    ///
    /// # Errors
    /// If it is a model that this engine cannot run; the message says why.
    pub fn config(&self) -> Result<String> {
        self.gguf.config().map_err(|error| self.file.failed(error))
    }

    /// The weights, under transformers' names.
    ///
    /// # Errors
    /// If one has no place in the model, or is stored in a way that is not read.
    pub fn weights(&self) -> Result<Vec<Weight<'_>>> {
        self.gguf.weights().map_err(|error| self.file.failed(error))
    }

    /// Weights as tensors, which are read when they are packed.
    #[must_use]
    pub fn tensors<'a>(&'a self, weights: &'a [Weight<'a>]) -> Tensors<'a> {
        let mut tensors = Tensors::default();
        for weight in weights {
            let (start, count) = (0, weight.elements());
            let elements = Elements::Gguf { file: &self.file, weight, start, count, stored: false };
            tensors.insert(&weight.name, Tensor { shape: weight.shape.clone(), elements });
        }
        tensors
    }
}

#[cfg(test)]
mod tests;
