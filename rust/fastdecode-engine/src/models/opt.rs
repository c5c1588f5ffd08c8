//! OPT: learned positions that begin at the third, and an MLP with ReLU.

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

/// The numbers of an OPT, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of config.json, by their names")]
struct OptConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    ffn_dim: usize,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "checks::yes")]
    do_layer_norm_before: bool,
    #[serde(default, rename = "_remove_final_layer_norm")]
    remove_final_layer_norm: bool,
    #[serde(default)]
    word_embed_proj_dim: Option<usize>,
    #[serde(default = "activation")]
    activation_function: String,
    #[serde(default = "checks::yes")]
    enable_bias: bool,
    #[serde(default = "checks::yes")]
    layer_norm_elementwise_affine: bool,
    #[serde(default = "checks::yes")]
    tie_word_embeddings: bool,
}

fn positions() -> usize {
    2048
}
fn activation() -> String {
    "relu".into()
}

/// Rows before that of the first position.
const OFFSET: usize = 2;
/// Of PyTorch's layer norms; no configuration changes it.
const EPSILON: f32 = 1e-5;

/// Reads an OPT's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    let config: OptConfig = serde_json::from_slice(text)?;
    config.check()?;
    Ok(Arc::new(config))
}

impl OptConfig {
    /// Checks whether the engine computes what the configuration means.
    fn check(&self) -> Result<()> {
        checks::sizes(&[
            ("vocab_size", self.vocab_size, LARGEST),
            ("max_position_embeddings", self.max_position_embeddings, LARGEST),
            ("hidden_size", self.hidden_size, LARGEST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, LARGEST),
            ("ffn_dim", self.ffn_dim, LARGEST),
        ])?;
        let heads = self.num_attention_heads;
        checks::divides("num_attention_heads", heads, ("hidden_size", self.hidden_size))?;
        if let Some(width) = self.word_embed_proj_dim.filter(|&width| width != self.hidden_size) {
            return checks::refuse("word_embed_proj_dim", width, checks::OTHER);
        }
        checks::activation("activation_function", &self.activation_function)?;
        checks::only("do_layer_norm_before", self.do_layer_norm_before, true)?;
        checks::only("_remove_final_layer_norm", self.remove_final_layer_norm, false)?;
        let affine = self.layer_norm_elementwise_affine;
        checks::only("layer_norm_elementwise_affine", affine, true)
    }
}

impl Architecture for OptConfig {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.max_position_embeddings
    }

    fn cache_shape(&self) -> Shape {
        let width = self.hidden_size / self.num_attention_heads;
        Shape::new(self.num_hidden_layers, self.num_attention_heads, width)
    }

    fn prefix(&self) -> &'static str {
        "model."
    }

    fn network(&self, weights: &mut Packing<'_>, format: Format) -> Result<Box<dyn Network>> {
        let (width, inner, biased) = (self.hidden_size, self.ffn_dim, self.enable_bias);
        let shape = self.cache_shape();
        let activation = checks::activation("activation_function", &self.activation_function)?;
        let layers = (0..self.num_hidden_layers)
            .map(|index| {
                let name = |part: &str| format!("decoder.layers.{index}.{part}");
                let norm = |weights: &mut Packing<'_>, part: &str| {
                    layer_norm(weights, &name(part), width, EPSILON)
                };
                let of = |parts: &[&str], outputs| -> Vec<(String, usize)> {
                    parts.iter().map(|part| (name(part), outputs)).collect()
                };
                let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
                let out = ["self_attn.out_proj"];
                Ok(Layer {
                    norm_1: norm(weights, "self_attn_layer_norm")?,
                    qkv: linear(weights, &of(&qkv, width), width, biased, format)?,
                    heads: Heads {
                        queries: self.num_attention_heads,
                        scale: 1.0 / (shape.width as f32).sqrt(),
                        window: None,
                        norms: None,
                    },
                    rotary: None,
                    out: linear(weights, &of(&out, width), width, biased, format)?,
                    after_attention: None,
                    norm_2: norm(weights, "final_layer_norm")?,
                    up: linear(weights, &of(&["fc1"], inner), width, biased, format)?,
                    activation,
                    gated: false,
                    down: linear(weights, &of(&["fc2"], width), inner, biased, format)?,
                    after_mlp: None,
                    parallel: false,
                })
            })
            .collect::<Result<_>>()?;
        let norm = layer_norm(weights, "decoder.final_layer_norm", width, EPSILON)?;
        let names = ["lm_head.weight", "decoder.embed_tokens.weight"];
        let (tied, sizes) = (self.tie_word_embeddings, [width, self.vocab_size]);
        let (head, tokens) = head_and_tokens(weights, names, tied, sizes, format)?;
        let rows = self.max_position_embeddings + OFFSET;
        let table = weights.table("decoder.embed_positions.weight", rows, width)?;
        let positions = Some(Positions { table, offset: OFFSET });
        let embedding = Embedding { tokens, scale: 1.0, positions };
        let rotaries = Vec::new();
        Ok(Box::new(Decoder { embedding, rotaries, layers, norm, head, shape, width, inner }))
    }
}
