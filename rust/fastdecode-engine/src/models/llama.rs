//! Llama, and the models that have its layers: SmolLM2, TinyLlama, Yi.

use super::common::checks;
use super::common::gated::{Biases, Common, Gated};
use super::{Architecture, ReadError};
use crate::error::Result;
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a Llama, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct LlamaConfig {
    #[serde(flatten)]
    common: Common,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "checks::silu")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
}

fn positions() -> usize {
    2048
}

/// Reads a Llama's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    Ok(Arc::new(serde_json::from_slice::<LlamaConfig>(text)?.model()?))
}

impl LlamaConfig {
    fn model(self) -> Result<Gated> {
        let context = self.max_position_embeddings;
        let model =
            self.common.model(context, self.num_key_value_heads, self.head_dim, 10_000.0)?;
        Ok(Gated {
            activation: checks::activation("hidden_act", &self.hidden_act)?,
            tied: self.tie_word_embeddings,
            biases: Biases::of(self.attention_bias, self.mlp_bias),
            ..model
        })
    }
}
