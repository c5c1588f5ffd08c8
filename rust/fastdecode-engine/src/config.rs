//! The numbers of a GPT-2, as transformers' `config.json` names them.

use crate::error::{Error, Result};
use serde::Deserialize;

/// A configuration that [`crate::Model`] can run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of config.json, by their names")]
pub struct Config {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// The context: most tokens of a row.
    #[serde(default = "default_positions")]
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Width within the MLP; four times `n_embd` by default.
    #[serde(default)]
    pub n_inner: Option<usize>,
    /// Added to the variance in a layer norm.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f32,
    #[serde(default = "default_model_type")]
    model_type: String,
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
fn default_model_type() -> String {
    "gpt2".into()
}
fn default_activation() -> String {
    "gelu_new".into()
}
fn yes() -> bool {
    true
}

/// Sizes beyond these are mistakes: a product of two of them fits easily, and so does an id.
const LARGEST: usize = 1 << 24;
const MOST_LAYERS: usize = 1 << 12;

impl Config {
    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// Where it is no JSON, lacks a number, or is the configuration of another model.
    pub fn from_json(text: &[u8], path: &std::path::Path) -> Result<Self> {
        let config: Self = serde_json::from_slice(text)
            .map_err(|source| Error::Json { path: path.to_owned(), source })?;
        config.check()?;
        Ok(config)
    }

    /// Whether this engine computes what the configuration means.
    ///
    /// # Errors
    /// Naming the field that stands against it.
    pub fn check(&self) -> Result<()> {
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
        if self.model_type != "gpt2" {
            return refuse("model_type", self.model_type.clone(), other);
        }
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

    /// Width within the MLP.
    #[must_use]
    pub fn inner(&self) -> usize {
        self.n_inner.unwrap_or(self.n_embd.saturating_mul(4))
    }

    /// Width of a head.
    #[must_use]
    pub fn head_width(&self) -> usize {
        self.n_embd / self.n_head
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use std::path::Path;

    fn read(text: &str) -> Result<Config, String> {
        Config::from_json(text.as_bytes(), Path::new("config.json")).map_err(|e| e.to_string())
    }

    const SMALL: &str = r#""vocab_size": 10, "n_embd": 8, "n_layer": 1, "n_head": 2"#;

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = read(&format!("{{{SMALL}}}")).unwrap();
        assert_eq!((config.n_positions, config.inner(), config.head_width()), (1024, 32, 4));
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
