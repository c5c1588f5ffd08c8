//! GPT-2: its configuration, the names of its tensors, and its forward pass.

use super::{Architecture, Network, Pass};
use crate::cache::Shape;
use crate::error::{Error, Result};
use crate::ops::{Attention, Embedding, LayerNorm, Linear, Output, RowBlocks};
use crate::weights::{Format, Orientation, Packing};
use serde::Deserialize;
use std::sync::Arc;

/// The numbers of a GPT-2, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of config.json, by their names")]
struct Gpt2Config {
    vocab_size: usize,
    #[serde(default = "default_positions")]
    n_positions: usize,
    /// Width of the residual.
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    /// Width within the MLP; four times `n_embd` by default.
    #[serde(default)]
    n_inner: Option<usize>,
    #[serde(default = "default_epsilon")]
    layer_norm_epsilon: f32,
    #[serde(default = "default_activation")]
    activation_function: String,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    reorder_and_upcast_attn: bool,
    #[serde(default)]
    add_cross_attention: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn default_positions() -> usize {
    1024
}
fn default_epsilon() -> f32 {
    1e-5
}
fn default_activation() -> String {
    "gelu_new".into()
}
fn yes() -> bool {
    true
}

/// Larger sizes are mistakes. A product of two of these fits in an integer easily, and so does a token id.
const LARGEST: usize = 1 << 24;
const MOST_LAYERS: usize = 1 << 12;

/// Reads a GPT-2's `config.json`.
pub(super) fn read(text: &[u8]) -> serde_json::Result<Arc<dyn Architecture>> {
    Ok(Arc::new(serde_json::from_slice::<Gpt2Config>(text)?))
}

impl Gpt2Config {
    /// Width within the MLP.
    fn inner(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }
}

impl Architecture for Gpt2Config {
    fn check(&self) -> Result<()> {
        let refuse = |name, value: String, need| Err(Error::Config { name, value, need });
        for (name, value, most) in [
            ("vocab_size", self.vocab_size, LARGEST),
            ("n_positions", self.n_positions, LARGEST),
            ("n_embd", self.n_embd, LARGEST),
            ("n_layer", self.n_layer, MOST_LAYERS),
            ("n_head", self.n_head, LARGEST),
            ("n_inner", self.inner(), 4 * LARGEST),
        ] {
            if value == 0 || value > most {
                return refuse(name, value.to_string(), "out of range");
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return refuse("n_head", self.n_head.to_string(), "it must divide n_embd");
        }
        let epsilon = self.layer_norm_epsilon;
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return refuse("layer_norm_epsilon", epsilon.to_string(), "it must be positive");
        }
        let other = "this engine computes plain GPT-2 only; use engine=\"torch\"";
        if !matches!(self.activation_function.as_str(), "gelu_new" | "gelu_pytorch_tanh") {
            return refuse("activation_function", self.activation_function.clone(), other);
        }
        for (name, value, plain) in [
            ("scale_attn_weights", self.scale_attn_weights, true),
            ("scale_attn_by_inverse_layer_idx", self.scale_attn_by_inverse_layer_idx, false),
            ("reorder_and_upcast_attn", self.reorder_and_upcast_attn, false),
            ("add_cross_attention", self.add_cross_attention, false),
            ("tie_word_embeddings", self.tie_word_embeddings, true),
        ] {
            if value != plain {
                return refuse(name, value.to_string(), other);
            }
        }
        Ok(())
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.n_positions
    }

    fn cache_shape(&self) -> Shape {
        Shape::new(self.n_layer, self.n_head, self.n_embd / self.n_head)
    }

    /// transformers saves the language model with this prefix; the original checkpoint has none.
    fn prefix(&self) -> &'static str {
        "transformer."
    }

    fn network(&self, weights: &mut Packing<'_>, format: Format) -> Result<Box<dyn Network>> {
        let (width, inner, vocabulary) = (self.n_embd, self.inner(), self.vocab_size);
        let norm = |weights: &mut Packing<'_>, name: &str| -> Result<LayerNorm> {
            Ok(LayerNorm {
                gain: weights.vector(&format!("{name}.weight"), width)?,
                bias: weights.vector(&format!("{name}.bias"), width)?,
                epsilon: self.layer_norm_epsilon,
            })
        };
        let linear = |weights: &mut Packing<'_>, name: &str, inputs, outputs| -> Result<Linear> {
            let (orientation, sizes) = (Orientation::InputsByOutputs, [inputs, outputs]);
            let matrix = weights.matrix(&format!("{name}.weight"), orientation, sizes, format)?;
            let bias = weights.bias(&format!("{name}.bias"), outputs)?;
            Ok(Linear { matrix, bias })
        };
        let layers = (0..self.n_layer)
            .map(|index| {
                let name = |part: &str| format!("h.{index}.{part}");
                Ok(Layer {
                    norm_1: norm(weights, &name("ln_1"))?,
                    qkv: linear(weights, &name("attn.c_attn"), width, 3 * width)?,
                    out: linear(weights, &name("attn.c_proj"), width, width)?,
                    norm_2: norm(weights, &name("ln_2"))?,
                    up: linear(weights, &name("mlp.c_fc"), width, inner)?,
                    down: linear(weights, &name("mlp.c_proj"), inner, width)?,
                })
            })
            .collect::<Result<_>>()?;
        let norm = norm(weights, "ln_f")?;
        // The head is the transposed token embedding.
        let (orientation, sizes) = (Orientation::OutputsByInputs, [width, vocabulary]);
        let matrix = weights.matrix("wte.weight", orientation, sizes, format)?;
        let head = Linear { matrix, bias: weights.no_bias(vocabulary) };
        let positions = weights.table("wpe.weight", self.n_positions, width)?;
        let embedding = Embedding { tokens: head.matrix.clone(), positions };
        let shape = self.cache_shape();
        Ok(Box::new(Gpt2 { embedding, layers, norm, head, shape, width, inner }))
    }
}

/// The layers of a GPT-2.
struct Gpt2 {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: LayerNorm,
    head: Linear,
    shape: Shape,
    width: usize,
    inner: usize,
}

struct Layer {
    norm_1: LayerNorm,
    /// To queries, keys and values.
    qkv: Linear,
    /// From the heads back to the residual.
    out: Linear,
    norm_2: LayerNorm,
    /// Into the MLP.
    up: Linear,
    /// Out of the MLP.
    down: Linear,
}

impl Network for Gpt2 {
    fn forward(&self, pass: Pass<'_, '_>, logits: &mut [f32]) -> Result<()> {
        let Pass { run, sequences, rows, wanted, buffers } = pass;
        let (width, count) = (self.width, rows.len());
        let blocks = RowBlocks::new(count);
        let [residual, normed, qkv, hidden] =
            buffers.take([width, width, 3 * width, self.inner].map(|width| count * width))?;

        self.embedding.apply(run, rows, residual);
        for (index, layer) in self.layers.iter().enumerate() {
            layer.norm_1.apply(run, blocks, residual, width, normed);
            layer.qkv.apply(run, blocks, normed, Output::Rows(qkv));
            Attention::new(sequences, rows, qkv, index, self.shape).apply(run, blocks, normed);
            layer.out.apply(run, blocks, normed, Output::Add(residual));
            layer.norm_2.apply(run, blocks, residual, width, normed);
            layer.up.apply(run, blocks, normed, Output::Gelu(hidden));
            layer.down.apply(run, blocks, hidden, Output::Add(residual));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        // The wanted rows, one after the other: they only ever move up.
        for (to, &from) in wanted.iter().enumerate() {
            residual.copy_within(from * width..(from + 1) * width, to * width);
        }
        let blocks = RowBlocks::new(wanted.len());
        let size = wanted.len() * width;
        let (residual, normed) = (&residual[..size], &mut normed[..size]);
        self.norm.apply(run, blocks, residual, width, normed);
        self.head.apply(run, blocks, normed, Output::Rows(logits));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Gpt2Config;
    use crate::models::Config;
    use std::path::Path;

    fn read(text: &str) -> Result<Config, String> {
        Config::from_json(text.as_bytes(), Path::new("config.json")).map_err(|e| e.to_string())
    }

    const SMALL: &str = r#""vocab_size": 10, "n_embd": 8, "n_layer": 1, "n_head": 2"#;

    #[test]
    fn defaults_are_those_of_transformers() {
        let text = format!("{{{SMALL}}}");
        let config = read(&text).unwrap();
        assert_eq!((config.vocab_size(), config.context()), (10, 1024));
        let config: Gpt2Config = serde_json::from_str(&text).unwrap();
        assert_eq!((config.n_positions, config.inner()), (1024, 32));
        assert_eq!(config.layer_norm_epsilon, 1e-5);
    }

    #[test]
    fn other_models_are_refused_by_name() {
        for (field, message) in [
            (
                r#""model_type": "llama""#,
                "model_type=llama in the configuration: this engine computes plain GPT-2 only; \
                 use engine=\"torch\"",
            ),
            (r#""activation_function": "relu""#, "activation_function=relu in the"),
            (r#""scale_attn_by_inverse_layer_idx": true"#, "scale_attn_by_inverse_layer_idx=true"),
            (r#""tie_word_embeddings": false"#, "tie_word_embeddings=false"),
            (r#""n_inner": 0"#, "n_inner=0 in the configuration: out of range"),
            (r#""layer_norm_epsilon": -1.0"#, "layer_norm_epsilon=-1"),
        ] {
            let error = read(&format!("{{{SMALL}, {field}}}")).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        let error =
            read(r#"{"vocab_size": 10, "n_embd": 8, "n_layer": 1, "n_head": 3}"#).unwrap_err();
        assert_eq!(error, "n_head=3 in the configuration: it must divide n_embd");
    }

    #[test]
    fn hostile_numbers_are_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"vocab_size": -1, "n_embd": 8, "n_layer": 1, "n_head": 2}"#,
            r#"{"vocab_size": 1e30, "n_embd": 8, "n_layer": 1, "n_head": 2}"#,
            r#"{"vocab_size": 18446744073709551615, "n_embd": 8, "n_layer": 1, "n_head": 2}"#,
            r#"{"vocab_size": 10, "n_embd": 0, "n_layer": 1, "n_head": 2}"#,
            r#"{"vocab_size": 10, "n_embd": 8, "n_layer": 99999999, "n_head": 2}"#,
            r#"{"vocab_size": 10, "n_embd": 9223372036854775808, "n_layer": 1, "n_head": 1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
