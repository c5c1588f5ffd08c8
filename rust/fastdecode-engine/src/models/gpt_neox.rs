//! GPT-NeoX, and Pythia: attention and MLP beside each other, and heads that are turned in part.

use super::common::checks::{self, LARGEST, MOST_LAYERS};
use super::common::decoder::{Decoder, Layer};
use super::common::parts::{head_and_tokens, joined, layer_norm, linear};
use super::common::rope::RopeFields;
use super::{Architecture, Network, ReadError};
use crate::cache::Shape;
use crate::error::Result;
use crate::ops::{Activation, Embedding, Heads, Rotary};
use crate::weights::{Format, Packing, Part};
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a GPT-NeoX, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct GptNeoxConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "activation")]
    hidden_act: String,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "checks::yes")]
    use_parallel_residual: bool,
    #[serde(default = "checks::yes")]
    attention_bias: bool,
    /// The base of the rotary embedding, and the share of a head that it turns, in older files.
    #[serde(default)]
    rotary_emb_base: Option<f64>,
    #[serde(default)]
    rotary_pct: Option<f64>,
    #[serde(flatten)]
    rope: RopeFields,
}

fn activation() -> String {
    "gelu".into()
}
fn positions() -> usize {
    2048
}
fn epsilon() -> f32 {
    1e-5
}

/// A GPT-NeoX that the engine computes.
#[derive(Debug)]
struct GptNeox {
    config: GptNeoxConfig,
    activation: Activation,
    rotary: Rotary,
}

/// Reads a GPT-NeoX's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    let config: GptNeoxConfig = serde_json::from_slice(text)?;
    let activation = config.check()?;
    let rotary = config.rotary()?;
    Ok(Arc::new(GptNeox { config, activation, rotary }))
}

impl GptNeoxConfig {
    fn check(&self) -> Result<Activation> {
        checks::sizes(&[
            ("vocab_size", self.vocab_size, LARGEST),
            ("max_position_embeddings", self.max_position_embeddings, LARGEST),
            ("hidden_size", self.hidden_size, LARGEST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, LARGEST),
            ("intermediate_size", self.intermediate_size, LARGEST),
        ])?;
        let heads = self.num_attention_heads;
        checks::divides("num_attention_heads", heads, ("hidden_size", self.hidden_size))?;
        checks::epsilon("layer_norm_eps", self.layer_norm_eps)?;
        checks::activation("hidden_act", &self.hidden_act)
    }

    fn rotary(&self) -> Result<Rotary> {
        let base = self.rotary_emb_base.unwrap_or(10_000.0);
        // These have names of their own in this family.
        let fields =
            RopeFields { rope_theta: None, partial_rotary_factor: None, ..self.rope.clone() };
        let parameters = fields.parameters(base)?;
        let part = parameters.partial_rotary_factor.or(self.rotary_pct).unwrap_or(0.25);
        if !(part > 0.0 && part <= 1.0) {
            return checks::refuse("partial_rotary_factor", part, "it must lie in 0..=1");
        }
        let width = self.head_width() as f64 * part;
        parameters.rotary(width as usize, self.max_position_embeddings)
    }

    fn head_width(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Queries, keys or values of all heads, whose rows lie head by head.
    fn part(&self, name: &str, which: usize) -> Vec<Part> {
        let width = self.head_width();
        (0..self.num_attention_heads)
            .map(|head| {
                let first = (3 * head + which) * width;
                Part::of(name, first..first + width, 3 * self.hidden_size)
            })
            .collect()
    }
}

impl Architecture for GptNeox {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn cache_shape(&self) -> Shape {
        let config = &self.config;
        Shape::new(config.num_hidden_layers, config.num_attention_heads, config.head_width())
    }

    fn prefix(&self) -> &'static str {
        "gpt_neox."
    }

    fn network(&self, weights: &mut Packing<'_>, format: Format) -> Result<Box<dyn Network>> {
        let config = &self.config;
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |weights: &mut Packing<'_>, name: &str| {
            layer_norm(weights, name, width, config.layer_norm_eps)
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let name = |part: &str| format!("layers.{index}.{part}");
                weights.check(&name("attention.query_key_value.weight"), &[3 * width, width])?;
                let qkv = |kind: &str| -> Vec<Part> {
                    let name = name(&format!("attention.query_key_value.{kind}"));
                    (0..3).flat_map(|which| config.part(&name, which)).collect()
                };
                let (biased, bias) = (config.attention_bias, qkv("bias"));
                let one = |part: &str, outputs| [(name(part), outputs)];
                Ok(Layer {
                    norm_1: norm(weights, &name("input_layernorm"))?,
                    qkv: joined(
                        weights,
                        &qkv("weight"),
                        biased.then_some(bias.as_slice()),
                        width,
                        format,
                    )?,
                    heads: Heads {
                        queries: config.num_attention_heads,
                        scale: 1.0 / (config.head_width() as f32).sqrt(),
                        window: None,
                        norms: None,
                    },
                    rotary: Some(0),
                    out: linear(weights, &one("attention.dense", width), width, biased, format)?,
                    after_attention: None,
                    norm_2: norm(weights, &name("post_attention_layernorm"))?,
                    up: linear(weights, &one("mlp.dense_h_to_4h", inner), width, true, format)?,
                    activation: self.activation,
                    gated: false,
                    down: linear(weights, &one("mlp.dense_4h_to_h", width), inner, true, format)?,
                    after_mlp: None,
                    parallel: config.use_parallel_residual,
                })
            })
            .collect::<Result<_>>()?;
        let norm = norm(weights, "final_layer_norm")?;
        let (tied, sizes) = (config.tie_word_embeddings, [width, config.vocab_size]);
        // The head has the first of these names in files, and the second in newer models in memory.
        let heads = ["embed_out.weight", "lm_head.weight"];
        let head = heads.into_iter().find(|name| weights.has(name)).unwrap_or(heads[0]);
        let (head, tokens) =
            head_and_tokens(weights, [head, "embed_in.weight"], tied, sizes, format)?;
        let embedding = Embedding { tokens, scale: 1.0, positions: None };
        let (rotaries, shape) = (vec![self.rotary.clone()], self.cache_shape());
        Ok(Box::new(Decoder { embedding, rotaries, layers, norm, head, shape, width, inner }))
    }
}
