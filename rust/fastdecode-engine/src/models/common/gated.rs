//! What Llama and the families after it have in common: RMS norms, rotary embeddings, heads of keys and
//! values that several heads of queries share, and an MLP with gates.

use super::checks::{self, LARGEST, MOST_LAYERS};
use super::decoder::{Decoder, Layer};
use super::parts;
use super::rope::RopeFields;
use crate::cache::Shape;
use crate::error::Result;
use crate::models::{Architecture, Network};
use crate::ops::{Activation, Embedding, GATES, Heads, Norm, Rotary};
use crate::weights::{Format, Packing, Part};
use serde::Deserialize;

/// The fields of a `config.json` that mean the same in all of these families.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Common {
    vocab_size: usize,
    /// Width of the residual.
    pub hidden_size: usize,
    /// Width within the MLP.
    intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    #[serde(default = "epsilon")]
    rms_norm_eps: f32,
    #[serde(flatten)]
    pub rope: RopeFields,
}

fn epsilon() -> f32 {
    1e-6
}

/// A model of one of these families.
#[derive(Debug)]
pub(crate) struct Gated {
    pub common: Common,
    pub context: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    pub activation: Activation,
    /// What queries are multiplied by.
    pub scale: f32,
    /// Whether the head is the transposed token embedding.
    pub tied: bool,
    pub biases: Biases,
    /// Whether queries and keys are normalised.
    pub head_norms: bool,
    /// Gemma's norms: gains are one more than what is stored, and the outputs of attention and MLP are
    /// normalised as well.
    pub gemma: bool,
    pub rotaries: Vec<Rotary>,
    pub kinds: Vec<Kind>,
}

/// The linear layers that have a bias.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Biases {
    pub qkv: bool,
    pub out: bool,
    pub mlp: bool,
}

impl Biases {
    /// In all linear layers of the attention, and of the MLP.
    pub fn of(attention: bool, mlp: bool) -> Self {
        Self { qkv: attention, out: attention, mlp }
    }
}

/// What differs between the layers of a model.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kind {
    /// The most positions that a row attends to.
    pub window: Option<usize>,
    /// The index of its rotary embedding.
    pub rotary: Option<usize>,
}

/// The fields about sliding windows that Qwen and SmolLM3 share.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Windows {
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    sliding_window: Option<usize>,
    #[serde(default)]
    max_window_layers: Option<usize>,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
}

impl Windows {
    /// Gives the layers their windows: those whose type says so, or without types those for which `sliding`
    /// holds.
    ///
    /// # Errors
    /// If a layer has a type that the engine does not compute, or there is no size of the window.
    pub fn apply(&self, kinds: &mut [Kind], sliding: impl Fn(usize, &Kind) -> bool) -> Result<()> {
        let sliding = match sliding_layers(self.layer_types.as_deref(), kinds.len())? {
            Some(types) => types,
            None if self.use_sliding_window => {
                kinds.iter().enumerate().map(|(layer, kind)| sliding(layer, kind)).collect()
            }
            None => return Ok(()),
        };
        if !self.use_sliding_window && !sliding.contains(&true) {
            return Ok(());
        }
        let Some(window) = self.sliding_window else {
            return checks::refuse("sliding_window", "null", "layers with a window need its size");
        };
        checks::window("sliding_window", Some(window))?;
        for (kind, _) in kinds.iter_mut().zip(sliding).filter(|(_, sliding)| *sliding) {
            kind.window = Some(window);
        }
        Ok(())
    }

    /// Without types: the layers from `max_window_layers` on. Types that name windows need
    /// `use_sliding_window`.
    pub fn apply_from_layer(&self, kinds: &mut [Kind]) -> Result<()> {
        let types = sliding_layers(self.layer_types.as_deref(), kinds.len())?;
        if !self.use_sliding_window && types.is_some_and(|types| types.contains(&true)) {
            let need = "layer_types has layers with a window, which need true here";
            return checks::refuse("use_sliding_window", false, need);
        }
        let first = self.max_window_layers.unwrap_or(28);
        self.apply(kinds, |layer, _| layer >= first)
    }
}

/// Whether each layer has a window, where the configuration gives the types of the layers.
pub(crate) fn sliding_layers(types: Option<&[String]>, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(types) = types else { return Ok(None) };
    if types.len() != layers {
        return checks::refuse("layer_types", types.len(), "it must have an entry for each layer");
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            other => checks::refuse("layer_types", other, checks::OTHER),
        })
        .collect::<Result<_>>()
        .map(Some)
}

impl Common {
    /// The heads' width where the configuration does not give one.
    ///
    /// # Errors
    /// If a size is out of range.
    pub fn head_width(&self) -> Result<usize> {
        checks::sizes(&[
            ("vocab_size", self.vocab_size, LARGEST),
            ("hidden_size", self.hidden_size, LARGEST),
            ("intermediate_size", self.intermediate_size, LARGEST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, LARGEST),
        ])?;
        Ok(self.hidden_size / self.num_attention_heads)
    }

    /// A model without anything that only some families have: `kv_heads` heads of keys and values, of width
    /// `head_width`, and full attention with one rotary embedding in all layers.
    ///
    /// # Errors
    /// If a size is out of range, or the rotary embedding is none that the engine computes.
    pub fn model(
        self,
        context: usize,
        kv_heads: Option<usize>,
        head_width: Option<usize>,
        default_theta: f64,
    ) -> Result<Gated> {
        let head_width = head_width.unwrap_or(self.head_width()?);
        let kv_heads = kv_heads.unwrap_or(self.num_attention_heads);
        checks::sizes(&[
            ("max_position_embeddings", context, LARGEST),
            ("num_key_value_heads", kv_heads, self.num_attention_heads),
            ("head_dim", head_width, LARGEST / self.num_attention_heads),
        ])?;
        let heads = ("num_attention_heads", self.num_attention_heads);
        checks::divides("num_key_value_heads", kv_heads, heads)?;
        checks::epsilon("rms_norm_eps", self.rms_norm_eps)?;
        let parameters = self.rope.parameters(default_theta)?;
        parameters.check_whole()?;
        let rotaries = vec![parameters.rotary(head_width, context)?];
        let kinds = vec![Kind { window: None, rotary: Some(0) }; self.num_hidden_layers];
        Ok(Gated {
            common: self,
            context,
            kv_heads,
            head_width,
            activation: Activation::Silu,
            scale: 1.0 / (head_width as f32).sqrt(),
            tied: false,
            biases: Biases::default(),
            head_norms: false,
            gemma: false,
            rotaries,
            kinds,
        })
    }
}

impl Gated {
    /// The norm of a name.
    fn norm(&self, weights: &mut Packing<'_>, name: &str, width: usize) -> Result<Norm> {
        let name = format!("{name}.weight");
        let gain = if self.gemma {
            weights.vector_plus_one(&name, width)?
        } else {
            weights.vector(&name, width)?
        };
        Ok(Norm { gain, bias: None, epsilon: self.common.rms_norm_eps })
    }

    fn layer(&self, weights: &mut Packing<'_>, index: usize, format: Format) -> Result<Layer> {
        let Common { hidden_size: width, intermediate_size: inner, .. } = self.common;
        let heads = self.common.num_attention_heads;
        let (queries, keys) = (heads * self.head_width, self.kv_heads * self.head_width);
        let name = |part: &str| format!("layers.{index}.{part}");
        let linear = |weights: &mut Packing<'_>, parts: &[(&str, usize)], inputs, biased| {
            let parts: Vec<_> = parts.iter().map(|&(part, rows)| (name(part), rows)).collect();
            parts::linear(weights, &parts, inputs, biased, format)
        };
        let norm_1 = self.norm(weights, &name("input_layernorm"), width)?;
        let qkv =
            [("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)];
        let qkv = linear(weights, &qkv, width, self.biases.qkv)?;
        let norms = if self.head_norms {
            let [q, k] = ["self_attn.q_norm", "self_attn.k_norm"].map(name);
            let (q, k) = (
                self.norm(weights, &q, self.head_width)?,
                self.norm(weights, &k, self.head_width)?,
            );
            Some([q, k])
        } else {
            None
        };
        let Kind { window, rotary } = self.kinds[index];
        let out = linear(weights, &[("self_attn.o_proj", width)], queries, self.biases.out)?;
        let after_attention = if self.gemma {
            Some(self.norm(weights, &name("post_attention_layernorm"), width)?)
        } else {
            None
        };
        let before_mlp =
            if self.gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let norm_2 = self.norm(weights, &name(before_mlp), width)?;
        weights.check(&name("mlp.gate_proj.weight"), &[inner, width])?;
        let gates = |kind| gated(&name("mlp.gate_proj"), &name("mlp.up_proj"), kind, inner);
        let biases = self.biases.mlp.then(|| gates("bias"));
        let up = parts::joined(weights, &gates("weight"), biases.as_deref(), width, format)?;
        let down = linear(weights, &[("mlp.down_proj", width)], inner, self.biases.mlp)?;
        let after_mlp = if self.gemma {
            Some(self.norm(weights, &name("post_feedforward_layernorm"), width)?)
        } else {
            None
        };
        Ok(Layer {
            norm_1,
            qkv,
            heads: Heads { queries: heads, scale: self.scale, window, norms },
            rotary,
            out,
            after_attention,
            norm_2,
            up,
            activation: self.activation,
            gated: true,
            down,
            after_mlp,
            parallel: false,
        })
    }
}

/// Gates and as many other outputs, alternately, as `Output::Gated` needs them.
fn gated(gate: &str, up: &str, kind: &str, inner: usize) -> Vec<Part> {
    let (gate, up) = (format!("{gate}.{kind}"), format!("{up}.{kind}"));
    let mut parts = Vec::new();
    for first in (0..inner).step_by(GATES) {
        let rows = first..inner.min(first + GATES);
        for name in [&gate, &up] {
            parts.push(Part::of(name, rows.clone(), inner));
            if rows.len() < GATES {
                parts.push(Part::zeros(GATES - rows.len()));
            }
        }
    }
    parts
}

impl Architecture for Gated {
    fn vocab_size(&self) -> usize {
        self.common.vocab_size
    }

    fn context(&self) -> usize {
        self.context
    }

    fn cache_shape(&self) -> Shape {
        Shape::new(self.common.num_hidden_layers, self.kv_heads, self.head_width)
    }

    fn prefix(&self) -> &'static str {
        "model."
    }

    fn network(&self, weights: &mut Packing<'_>, format: Format) -> Result<Box<dyn Network>> {
        let Common { hidden_size: width, intermediate_size: inner, vocab_size, .. } = self.common;
        let layers = (0..self.common.num_hidden_layers)
            .map(|index| self.layer(weights, index, format))
            .collect::<Result<_>>()?;
        let norm = self.norm(weights, "norm", width)?;
        let names = ["lm_head.weight", "embed_tokens.weight"];
        let sizes = [width, vocab_size];
        let (head, tokens) = parts::head_and_tokens(weights, names, self.tied, sizes, format)?;
        let scale = if self.gemma { (width as f32).sqrt() } else { 1.0 };
        let embedding = Embedding { tokens, scale, positions: None };
        let (rotaries, shape) = (self.rotaries.clone(), self.cache_shape());
        Ok(Box::new(Decoder { embedding, rotaries, layers, norm, head, shape, width, inner }))
    }
}
