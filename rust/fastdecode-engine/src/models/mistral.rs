//! Mistral: a Llama that attends to a sliding window.

use super::common::checks;
use super::common::gated::{Common, Gated, sliding_layers};
use super::{Architecture, ReadError};
use crate::error::Result;
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a Mistral, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct MistralConfig {
    #[serde(flatten)]
    common: Common,
    #[serde(default = "kv_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "checks::silu")]
    hidden_act: String,
    #[serde(default = "window")]
    sliding_window: Option<usize>,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    tie_word_embeddings: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn kv_heads() -> Option<usize> {
    Some(8)
}
fn positions() -> usize {
    4096 * 32
}
#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn window() -> Option<usize> {
    Some(4096)
}

/// Reads a Mistral's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    Ok(Arc::new(serde_json::from_slice::<MistralConfig>(text)?.model()?))
}

impl MistralConfig {
    fn model(self) -> Result<Gated> {
        let context = self.max_position_embeddings;
        let mut model =
            self.common.model(context, self.num_key_value_heads, self.head_dim, 10_000.0)?;
        checks::window("sliding_window", self.sliding_window)?;
        let types = sliding_layers(self.layer_types.as_deref(), model.kinds.len())?;
        if types.is_some_and(|types| types.contains(&self.sliding_window.is_none())) {
            let need = "all layers of a Mistral are of one kind, by sliding_window";
            return checks::refuse("layer_types", format!("{:?}", self.layer_types), need);
        }
        for kind in &mut model.kinds {
            kind.window = self.sliding_window;
        }
        Ok(Gated {
            activation: checks::activation("hidden_act", &self.hidden_act)?,
            tied: self.tie_word_embeddings,
            ..model
        })
    }
}
