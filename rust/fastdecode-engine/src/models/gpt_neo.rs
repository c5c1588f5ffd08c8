//! GPT-Neo: a GPT-2 whose layers attend to everything and to a window in turns, without a scale.

use super::common::checks::{self, LARGEST, MOST_LAYERS};
use super::common::decoder::{Decoder, Layer};
use super::common::parts::{head_and_tokens, layer_norm, linear};
use super::{Architecture, Network, ReadError};
use crate::cache::Shape;
use crate::error::Result;
use crate::ops::{Embedding, Heads, Positions};
use crate::weights::{Format, Packing};
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a GPT-Neo, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct GptNeoConfig {
    vocab_size: usize,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    hidden_size: usize,
    num_layers: usize,
    num_heads: usize,
    #[serde(default)]
    intermediate_size: Option<usize>,
    /// Kinds of layers, and how often they come after each other.
    #[serde(default)]
    attention_types: Option<Vec<(Vec<String>, usize)>>,
    /// The kind of each layer, which takes precedence.
    #[serde(default)]
    attention_layers: Option<Vec<String>>,
    #[serde(default = "window")]
    window_size: usize,
    #[serde(default = "activation")]
    activation_function: String,
    #[serde(default = "epsilon")]
    layer_norm_epsilon: f32,
    #[serde(default = "checks::yes")]
    tie_word_embeddings: bool,
}

fn positions() -> usize {
    2048
}
fn window() -> usize {
    256
}
fn activation() -> String {
    "gelu_new".into()
}
fn epsilon() -> f32 {
    1e-5
}

/// Reads a GPT-Neo's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    let config: GptNeoConfig = serde_json::from_slice(text)?;
    config.check()?;
    Ok(Arc::new(config))
}

impl GptNeoConfig {
    /// Width within the MLP.
    fn inner(&self) -> usize {
        self.intermediate_size.unwrap_or(self.hidden_size.saturating_mul(4))
    }

    /// Checks whether the engine computes what the configuration means.
    fn check(&self) -> Result<()> {
        checks::sizes(&[
            ("vocab_size", self.vocab_size, LARGEST),
            ("max_position_embeddings", self.max_position_embeddings, LARGEST),
            ("hidden_size", self.hidden_size, LARGEST),
            ("num_layers", self.num_layers, MOST_LAYERS),
            ("num_heads", self.num_heads, LARGEST),
            ("intermediate_size", self.inner(), 4 * LARGEST),
            ("window_size", self.window_size, LARGEST),
        ])?;
        checks::divides("num_heads", self.num_heads, ("hidden_size", self.hidden_size))?;
        checks::epsilon("layer_norm_epsilon", self.layer_norm_epsilon)?;
        checks::activation("activation_function", &self.activation_function)?;
        self.windows().map(drop)
    }

    /// The window of each layer.
    fn windows(&self) -> Result<Vec<Option<usize>>> {
        let default = vec![(vec!["global".to_owned(), "local".to_owned()], 12)];
        let types = self.attention_types.as_ref().unwrap_or(&default);
        let expanded = types.iter().flat_map(|(kinds, times)| {
            std::iter::repeat_n(kinds, (*times).min(MOST_LAYERS)).flatten()
        });
        let (name, kinds): (_, Vec<&String>) = match &self.attention_layers {
            Some(kinds) => ("attention_layers", kinds.iter().collect()),
            None => ("attention_types", expanded.take(self.num_layers + 1).collect()),
        };
        let windows = kinds
            .iter()
            .map(|kind| match kind.as_str() {
                "global" => Ok(None),
                "local" => Ok(Some(self.window_size)),
                other => checks::refuse(name, other, checks::OTHER),
            })
            .collect::<Result<Vec<_>>>()?;
        if windows.len() == self.num_layers {
            return Ok(windows);
        }
        checks::refuse(name, format!("{kinds:?}"), "it must have an entry for each layer")
    }
}

impl Architecture for GptNeoConfig {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.max_position_embeddings
    }

    fn cache_shape(&self) -> Shape {
        Shape::new(self.num_layers, self.num_heads, self.hidden_size / self.num_heads)
    }

    fn prefix(&self) -> &'static str {
        "transformer."
    }

    fn network(&self, weights: &mut Packing<'_>, format: Format) -> Result<Box<dyn Network>> {
        let (width, inner, shape) = (self.hidden_size, self.inner(), self.cache_shape());
        let activation = checks::activation("activation_function", &self.activation_function)?;
        let windows = self.windows()?;
        let layers = windows
            .into_iter()
            .enumerate()
            .map(|(index, window)| {
                let name = |part: &str| format!("h.{index}.{part}");
                let norm = |weights: &mut Packing<'_>, part: &str| {
                    layer_norm(weights, &name(part), width, self.layer_norm_epsilon)
                };
                let of = |parts: &[&str], outputs| -> Vec<(String, usize)> {
                    parts.iter().map(|part| (name(part), outputs)).collect()
                };
                let qkv =
                    ["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"];
                let out = ["attn.attention.out_proj"];
                Ok(Layer {
                    norm_1: norm(weights, "ln_1")?,
                    qkv: linear(weights, &of(&qkv, width), width, false, format)?,
                    heads: Heads { queries: self.num_heads, scale: 1.0, window, norms: None },
                    rotary: None,
                    out: linear(weights, &of(&out, width), width, true, format)?,
                    after_attention: None,
                    norm_2: norm(weights, "ln_2")?,
                    up: linear(weights, &of(&["mlp.c_fc"], inner), width, true, format)?,
                    activation,
                    gated: false,
                    down: linear(weights, &of(&["mlp.c_proj"], width), inner, true, format)?,
                    after_mlp: None,
                    parallel: false,
                })
            })
            .collect::<Result<_>>()?;
        let norm = layer_norm(weights, "ln_f", width, self.layer_norm_epsilon)?;
        let (names, tied) = (["lm_head.weight", "wte.weight"], self.tie_word_embeddings);
        let sizes = [width, self.vocab_size];
        let (head, tokens) = head_and_tokens(weights, names, tied, sizes, format)?;
        let table = weights.table("wpe.weight", self.max_position_embeddings, width)?;
        let positions = Some(Positions { table, offset: 0 });
        let embedding = Embedding { tokens, scale: 1.0, positions };
        let rotaries = Vec::new();
        Ok(Box::new(Decoder { embedding, rotaries, layers, norm, head, shape, width, inner }))
    }
}
