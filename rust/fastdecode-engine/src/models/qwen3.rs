//! Qwen3: a Llama whose heads of queries and keys are normalised.

use super::common::checks;
use super::common::gated::{Biases, Common, Gated, Windows};
use super::{Architecture, ReadError};
use crate::error::Result;
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a Qwen3, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct Qwen3Config {
    #[serde(flatten)]
    common: Common,
    num_key_value_heads: Option<usize>,
    #[serde(default = "head_width")]
    head_dim: usize,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "checks::silu")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(flatten)]
    windows: Windows,
}

fn head_width() -> usize {
    128
}
fn positions() -> usize {
    32_768
}

/// Reads a Qwen3's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    Ok(Arc::new(serde_json::from_slice::<Qwen3Config>(text)?.model()?))
}

impl Qwen3Config {
    fn model(self) -> Result<Gated> {
        let context = self.max_position_embeddings;
        let kv_heads = self.num_key_value_heads;
        let mut model = self.common.model(context, kv_heads, Some(self.head_dim), 10_000.0)?;
        self.windows.apply_from_layer(&mut model.kinds)?;
        Ok(Gated {
            activation: checks::activation("hidden_act", &self.hidden_act)?,
            tied: self.tie_word_embeddings,
            biases: Biases::of(self.attention_bias, false),
            head_norms: true,
            ..model
        })
    }
}
