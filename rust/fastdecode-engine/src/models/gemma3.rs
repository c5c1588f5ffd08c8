//! Gemma 3, the models of text alone: norms around attention and MLP, and two rotary embeddings, one for
//! layers with a sliding window and one for the others.

use super::common::checks;
use super::common::gated::{Biases, Common, Gated, sliding_layers};
use super::common::rope::RopeParameters;
use super::{Architecture, ReadError};
use crate::error::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The numbers of a Gemma 3, as transformers' `config.json` names them.
#[derive(Debug, Deserialize)]
struct Gemma3Config {
    #[serde(flatten)]
    common: Common,
    num_key_value_heads: usize,
    head_dim: usize,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    #[serde(default = "activation")]
    hidden_activation: String,
    #[serde(default = "query_scalar")]
    query_pre_attn_scalar: f32,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_bidirectional_attention: Option<bool>,
    #[serde(default)]
    final_logit_softcapping: Option<f32>,
    #[serde(default)]
    attn_logit_softcapping: Option<f32>,
    sliding_window: Option<usize>,
    #[serde(default)]
    sliding_window_pattern: Option<usize>,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    rope_local_base_freq: Option<f64>,
    #[serde(default = "checks::yes")]
    tie_word_embeddings: bool,
}

fn positions() -> usize {
    131_072
}
fn activation() -> String {
    "gelu_pytorch_tanh".into()
}
fn query_scalar() -> f32 {
    256.0
}

/// Reads a Gemma 3's `config.json`.
pub(super) fn read(text: &[u8]) -> std::result::Result<Arc<dyn Architecture>, ReadError> {
    Ok(Arc::new(serde_json::from_slice::<Gemma3Config>(text)?.model()?))
}

impl Gemma3Config {
    fn model(mut self) -> Result<Gated> {
        checks::only(
            "use_bidirectional_attention",
            self.use_bidirectional_attention.unwrap_or(false),
            false,
        )?;
        for (name, cap) in [
            ("final_logit_softcapping", self.final_logit_softcapping),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
        ] {
            if let Some(cap) = cap {
                return checks::refuse(name, cap, checks::OTHER);
            }
        }
        let scalar = self.query_pre_attn_scalar;
        if !(scalar > 0.0 && scalar.is_finite()) {
            return checks::refuse("query_pre_attn_scalar", scalar, "it must be positive");
        }
        let local = self.take_local()?;
        let context = self.max_position_embeddings;
        let (kv_heads, head_width) = (Some(self.num_key_value_heads), Some(self.head_dim));
        let mut model = self.common.model(context, kv_heads, head_width, 1_000_000.0)?;
        model.rotaries.push(local.rotary(self.head_dim, context)?);

        let layers = model.kinds.len();
        let pattern = self.sliding_window_pattern.unwrap_or(6);
        checks::sizes(&[("sliding_window_pattern", pattern, checks::LARGEST)])?;
        let sliding = sliding_layers(self.layer_types.as_deref(), layers)?
            .unwrap_or_else(|| (1..=layers).map(|layer| !layer.is_multiple_of(pattern)).collect());
        checks::window("sliding_window", self.sliding_window)?;
        if self.sliding_window.is_none() && sliding.contains(&true) {
            return checks::refuse("sliding_window", "null", "layers with a window need its size");
        }
        for (kind, sliding) in model.kinds.iter_mut().zip(sliding) {
            kind.window = self.sliding_window.filter(|_| sliding);
            kind.rotary = Some(usize::from(sliding));
        }
        Ok(Gated {
            activation: checks::activation("hidden_activation", &self.hidden_activation)?,
            scale: 1.0 / scalar.sqrt(),
            tied: self.tie_word_embeddings,
            biases: Biases::of(self.attention_bias, false),
            head_norms: true,
            gemma: true,
            ..model
        })
    }

    /// The rotary embedding of the layers with a window. That of the others stays in the common fields.
    fn take_local(&mut self) -> Result<RopeParameters> {
        let rope = &mut self.common.rope;
        rope.original_max_position_embeddings = None;
        let mut nested = match rope.rope_parameters.take() {
            Some(Value::Object(nested)) => nested,
            Some(other) => return checks::refuse("rope_parameters", other, checks::OTHER),
            None => {
                [("full_attention".into(), json!({"rope_type": "default"}))].into_iter().collect()
            }
        };
        let part = |nested: &mut serde_json::Map<_, _>, name: &str| {
            nested.remove(name).filter(|part: &Value| !part.is_null())
        };
        let (local, mut full) =
            (part(&mut nested, "sliding_attention"), part(&mut nested, "full_attention"));
        if let Some(scaling) = rope.rope_scaling.take() {
            // The older field adds to the newer one here.
            match (full.as_mut(), scaling) {
                (Some(Value::Object(full)), Value::Object(scaling)) => full.extend(scaling),
                (_, scaling) => return checks::refuse("rope_scaling", scaling, checks::OTHER),
            }
        }
        if let Some(name) = nested.keys().next() {
            return checks::refuse("rope_parameters", name, checks::OTHER);
        }
        rope.rope_parameters = full;
        let mut local = match local {
            Some(local) => RopeParameters::read("rope_parameters", &local)?,
            None => RopeParameters::default(),
        };
        local.check_whole()?;
        local.rope_theta = local.rope_theta.or(self.rope_local_base_freq).or(Some(10_000.0));
        Ok(local)
    }
}
