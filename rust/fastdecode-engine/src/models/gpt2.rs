//! GPT-2: its configuration, the names of its tensors, and what its layers consist of.

use super::common::checks::{self, LARGEST, MOST_LAYERS};
use super::common::decoder::{Decoder, Layer};
use super::common::parts::{head_and_tokens, layer_norm};
use super::{Architecture, Network, ReadError};
use crate::cache::Shape;
use crate::error::Result;
use crate::ops::{Embedding, Heads, Linear, Positions};
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
    #[serde(default = "checks::yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
    #[serde(default = "checks::yes")]
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

/// Reads a GPT-2's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    let config: Gpt2Config = serde_json::from_slice(text)?;
    config.check()?;
    Ok(Arc::new(config))
}

impl Gpt2Config {
    /// Width within the MLP.
    fn inner(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }

    /// Checks whether the engine computes what the configuration means.
    fn check(&self) -> Result<()> {
        checks::sizes(&[
            ("vocab_size", self.vocab_size, LARGEST),
            ("n_positions", self.n_positions, LARGEST),
            ("n_embd", self.n_embd, LARGEST),
            ("n_layer", self.n_layer, MOST_LAYERS),
            ("n_head", self.n_head, LARGEST),
            ("n_inner", self.inner(), 4 * LARGEST),
        ])?;
        checks::divides("n_head", self.n_head, ("n_embd", self.n_embd))?;
        checks::epsilon("layer_norm_epsilon", self.layer_norm_epsilon)?;
        checks::activation("activation_function", &self.activation_function)?;
        checks::only("add_cross_attention", self.add_cross_attention, false)
    }

    fn heads(&self, layer: usize) -> Heads {
        let mut scale = 1.0;
        if self.scale_attn_weights {
            scale /= ((self.n_embd / self.n_head) as f32).sqrt();
        }
        if self.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f32;
        }
        Heads { queries: self.n_head, scale, window: None, norms: None }
    }
}

impl Architecture for Gpt2Config {
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
        let norm = |weights: &mut Packing<'_>, name: &str| {
            layer_norm(weights, name, width, self.layer_norm_epsilon)
        };
        let linear = |weights: &mut Packing<'_>, name: &str, inputs, outputs| -> Result<Linear> {
            let (orientation, sizes) = (Orientation::InputsByOutputs, [inputs, outputs]);
            let matrix = weights.matrix(&format!("{name}.weight"), orientation, sizes, format)?;
            let bias = weights.bias(&format!("{name}.bias"), outputs)?;
            Ok(Linear { matrix, bias })
        };
        let activation = checks::activation("activation_function", &self.activation_function)?;
        let layers = (0..self.n_layer)
            .map(|index| {
                let name = |part: &str| format!("h.{index}.{part}");
                Ok(Layer {
                    norm_1: norm(weights, &name("ln_1"))?,
                    qkv: linear(weights, &name("attn.c_attn"), width, 3 * width)?,
                    heads: self.heads(index),
                    rotary: None,
                    out: linear(weights, &name("attn.c_proj"), width, width)?,
                    after_attention: None,
                    norm_2: norm(weights, &name("ln_2"))?,
                    up: linear(weights, &name("mlp.c_fc"), width, inner)?,
                    activation,
                    gated: false,
                    down: linear(weights, &name("mlp.c_proj"), inner, width)?,
                    after_mlp: None,
                    parallel: false,
                })
            })
            .collect::<Result<_>>()?;
        let norm = norm(weights, "ln_f")?;
        let (names, tied) = (["lm_head.weight", "wte.weight"], self.tie_word_embeddings);
        let (head, tokens) = head_and_tokens(weights, names, tied, [width, vocabulary], format)?;
        let table = weights.table("wpe.weight", self.n_positions, width)?;
        let positions = Some(Positions { table, offset: 0 });
        let embedding = Embedding { tokens, scale: 1.0, positions };
        let shape = self.cache_shape();
        let rotaries = Vec::new();
        Ok(Box::new(Decoder { embedding, rotaries, layers, norm, head, shape, width, inner }))
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
                r#""model_type": "bloom""#,
                "model_type=bloom in the configuration: the native engine runs gemma3_text, gpt2, ",
            ),
            (
                r#""activation_function": "tanh""#,
                "activation_function=tanh in the configuration: the native engine does not compute \
                 this; use engine=\"transformers\"",
            ),
            (r#""add_cross_attention": true"#, "add_cross_attention=true"),
            (r#""n_inner": 0"#, "n_inner=0 in the configuration: out of range"),
            (r#""layer_norm_epsilon": -1.0"#, "layer_norm_epsilon=-1"),
        ] {
            let error = read(&format!("{{{SMALL}, {field}}}")).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        let error =
            read(r#"{"vocab_size": 10, "n_embd": 8, "n_layer": 1, "n_head": 3}"#).unwrap_err();
        assert_eq!(error, "n_head=3 in the configuration: it must divide n_embd=8");
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
