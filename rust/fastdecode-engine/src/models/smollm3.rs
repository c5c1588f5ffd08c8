//! SmolLM3: a Llama some of whose layers have no rotary embedding.

use super::common::checks;
use super::common::gated::{Biases, Common, Gated, Windows};
use super::{Architecture, ReadError};
use crate::error::Result;
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a SmolLM3, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct SmolLm3Config {
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
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "checks::yes")]
    tie_word_embeddings: bool,
    /// Zero for each layer without a rotary embedding.
    #[serde(default)]
    no_rope_layers: Option<Vec<u8>>,
    #[serde(default = "interval")]
    no_rope_layer_interval: usize,
    #[serde(flatten)]
    windows: Windows,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn kv_heads() -> Option<usize> {
    Some(4)
}
fn positions() -> usize {
    32_768
}
fn interval() -> usize {
    4
}

/// Reads a SmolLM3's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    Ok(Arc::new(serde_json::from_slice::<SmolLm3Config>(text)?.model()?))
}

impl SmolLm3Config {
    fn model(self) -> Result<Gated> {
        let context = self.max_position_embeddings;
        let kv_heads = self.num_key_value_heads;
        let mut model = self.common.model(context, kv_heads, self.head_dim, 2_000_000.0)?;
        let interval = self.no_rope_layer_interval;
        checks::sizes(&[("no_rope_layer_interval", interval, checks::LARGEST)])?;
        let layers = model.kinds.len();
        let rotary = self.no_rope_layers.unwrap_or_else(|| {
            (1..=layers).map(|layer| u8::from(!layer.is_multiple_of(interval))).collect()
        });
        if rotary.len() != layers {
            let need = "it must have an entry for each layer";
            return checks::refuse("no_rope_layers", format!("{rotary:?}"), need);
        }
        for (kind, rotary) in model.kinds.iter_mut().zip(rotary) {
            kind.rotary = (rotary != 0).then_some(0);
        }
        self.windows.apply(&mut model.kinds, |_, kind| kind.rotary.is_none())?;
        Ok(Gated {
            activation: checks::activation("hidden_act", &self.hidden_act)?,
            tied: self.tie_word_embeddings,
            biases: Biases::of(self.attention_bias, self.mlp_bias),
            ..model
        })
    }
}
