//! A model's configuration from a file's metadata, as transformers' `config.json` has it.

use super::error::{Error, Result};
use super::file::Gguf;
use super::value::Value;
use serde_json::{Map, Value as Json, json};

/// The architectures whose metadata and tensors are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
    Gpt2,
}

/// Their names in `general.architecture`.
const ARCHITECTURES: [(&str, Architecture); 5] = [
    ("llama", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
    ("gemma3", Architecture::Gemma3),
    ("gpt2", Architecture::Gpt2),
];

/// Keys of an architecture that say nothing about what the model computes.
const WITHOUT_EFFECT: [&str; 4] =
    ["vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "attention.causal"];
/// Keys that may be there with the value 0: the model has no experts.
const ABSENT: [&str; 2] = ["expert_count", "expert_used_count"];

impl Architecture {
    pub fn of(file: &Gguf) -> Result<Self> {
        let name = text(file, "general.architecture", "know what the tensors mean")?;
        let found = ARCHITECTURES.iter().find(|(known, _)| *known == name);
        found.map(|(_, architecture)| *architecture).ok_or_else(|| Error::Architecture {
            name: name.to_owned(),
            known: ARCHITECTURES.map(|(known, _)| known).join(", "),
        })
    }

    pub fn name(self) -> &'static str {
        ARCHITECTURES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// Rows of a head of queries and keys, where llama.cpp interleaves the halves of each.
    pub fn interleaved(self, file: &Gguf) -> Result<Option<u64>> {
        if self != Self::Llama {
            return Ok(None);
        }
        let mut keys = Keys::new(file, self);
        let (width, heads) = (keys.count("embedding_length")?, keys.count("attention.head_count")?);
        keys.head_width(width, heads).map(Some)
    }
}

impl Gguf {
    /// The text of transformers' `config.json` for the model in the file.
    ///
    /// # Errors
    /// If the architecture is not known, a key is missing or of another type, or the file says something
    /// about the model that this engine does not know.
    pub fn config(&self) -> Result<String> {
        config(self)
    }
}

fn config(file: &Gguf) -> Result<String> {
    if let Some(count) = file.get("split.count").and_then(Value::as_count)
        && count > 1
    {
        return Err(Error::Unsupported {
            what: format!("split.count={count}"),
            reason: "the model is split over several files; merge them with llama-gguf-split",
        });
    }
    let architecture = Architecture::of(file)?;
    let mut keys = Keys::new(file, architecture);
    let mut config = match architecture {
        Architecture::Gpt2 => keys.gpt2()?,
        _ => keys.gated()?,
    };
    keys.refuse_unread()?;
    for (key, name) in [
        ("bos_token_id", "bos_token_id"),
        ("eos_token_id", "eos_token_id"),
        ("padding_token_id", "pad_token_id"),
    ] {
        if let Some(value) = file.get(&format!("tokenizer.ggml.{key}")) {
            let id = value.as_count().ok_or_else(|| Error::Type {
                key: format!("tokenizer.ggml.{key}"),
                found: value.kind(),
                expected: "an integer that is not negative",
            })?;
            config.insert(name.to_owned(), id.into());
        }
    }
    Ok(Json::Object(config).to_string())
}

/// The keys of an architecture, and which of them have been read.
struct Keys<'a> {
    file: &'a Gguf,
    architecture: Architecture,
    read: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    fn new(file: &'a Gguf, architecture: Architecture) -> Self {
        Self { file, architecture, read: Vec::new() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name())
    }

    fn get(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.read.push(name);
        self.file.get(&self.key(name))
    }

    fn wrong(&self, name: &str, value: Value<'_>, expected: &'static str) -> Error {
        Error::Type { key: self.key(name), found: value.kind(), expected }
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingKey { key: self.key(name), purpose: "know the size of the model" }
    }

    fn optional_count(&mut self, name: &'static str) -> Result<Option<u64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if let Value::Array(array) = value {
            // One number for each layer: all layers of these architectures are alike.
            let mut counts = array.iter().map(Value::as_count);
            let first = counts.next().flatten();
            if first.is_some() && counts.all(|count| count == first) {
                return Ok(first);
            }
            return Err(Error::Unsupported {
                what: self.key(name),
                reason: "the layers differ in this, which the engine does not compute",
            });
        }
        let wrong = || self.wrong(name, value, "an integer that is not negative");
        value.as_count().ok_or_else(wrong).map(Some)
    }

    fn count(&mut self, name: &'static str) -> Result<u64> {
        self.optional_count(name)?.ok_or_else(|| self.missing(name))
    }

    fn optional_number(&mut self, name: &'static str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            // The shortest decimal number that is this float32, as it is written in `config.json`.
            Some(Value::F32(x)) if x.is_finite() => Ok(x.to_string().parse().ok()),
            Some(Value::F64(x)) if x.is_finite() => Ok(Some(x)),
            Some(value @ (Value::F32(_) | Value::F64(_))) => {
                Err(self.wrong(name, value, "a finite number"))
            }
            Some(value) => match value.as_count() {
                Some(count) => Ok(Some(count as f64)),
                None => Err(self.wrong(name, value, "a number")),
            },
        }
    }

    fn number(&mut self, name: &'static str) -> Result<f64> {
        self.optional_number(name)?.ok_or_else(|| self.missing(name))
    }

    fn has(&self, tensor: &str) -> bool {
        self.file.tensor(tensor).is_ok()
    }

    /// Tokens in the vocabulary: the rows of the embedding.
    fn vocabulary(&self) -> Result<u64> {
        let embedding = self.file.tensor("token_embd.weight")?;
        embedding.shape().first().copied().ok_or_else(|| Error::scalar(embedding.name))
    }

    /// Refuses keys about the model that have not been read, since they may change what it computes.
    fn refuse_unread(&self) -> Result<()> {
        let prefix = self.key("");
        for key in self.file.keys() {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            let zero = self.file.get(key).and_then(Value::as_count) == Some(0);
            let known = self.read.contains(&name) || WITHOUT_EFFECT.contains(&name);
            let absent = zero && ABSENT.contains(&name);
            if !known && !absent {
                return Err(Error::Unsupported {
                    what: key.to_owned(),
                    reason: "the native engine does not know what this changes about the model",
                });
            }
        }
        Ok(())
    }

    /// The width of a head of queries, keys and values.
    fn head_width(&mut self, width: u64, heads: u64) -> Result<u64> {
        let [key, value] = [
            self.optional_count("attention.key_length")?,
            self.optional_count("attention.value_length")?,
        ];
        let turned = self.optional_count("rope.dimension_count")?;
        let head = match key.or(turned) {
            Some(head) => head,
            None => width.checked_div(heads).unwrap_or(0),
        };
        if head == 0 || !head.is_multiple_of(2) {
            return Err(Error::Unsupported {
                what: self.key("attention.head_count"),
                reason: "a head must have a width, and an even one",
            });
        }
        for (name, found) in [("attention.value_length", value), ("rope.dimension_count", turned)] {
            if found.is_some_and(|found| found != head) {
                return Err(Error::Unsupported {
                    what: self.key(name),
                    reason: "it differs from the width of a head, which the engine does not compute",
                });
            }
        }
        Ok(head)
    }

    fn gpt2(&mut self) -> Result<Map<String, Json>> {
        Ok(object(json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": self.vocabulary()?,
            "n_positions": self.count("context_length")?,
            "n_embd": self.count("embedding_length")?,
            "n_inner": self.count("feed_forward_length")?,
            "n_layer": self.count("block_count")?,
            "n_head": self.count("attention.head_count")?,
            "layer_norm_epsilon": self.number("attention.layer_norm_epsilon")?,
            "activation_function": "gelu_new",
            "tie_word_embeddings": !self.has("output.weight"),
        })))
    }

    /// Llama, and the families that are built as it is.
    fn gated(&mut self) -> Result<Map<String, Json>> {
        let (width, heads) = (self.count("embedding_length")?, self.count("attention.head_count")?);
        let head = self.head_width(width, heads)?;
        let layers = self.count("block_count")?;
        let context = self.count("context_length")?;
        let mut config = object(json!({
            "vocab_size": self.vocabulary()?,
            "hidden_size": width,
            "intermediate_size": self.count("feed_forward_length")?,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.optional_count("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head,
            "max_position_embeddings": context,
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?,
            "tie_word_embeddings": !self.has("output.weight"),
        }));
        let default = if self.architecture == Architecture::Gemma3 { 1e6 } else { 1e4 };
        let theta = self.optional_number("rope.freq_base")?.unwrap_or(default);
        let scaling = self.rope_scaling(theta, head)?;
        let (kind, class) = match self.architecture {
            Architecture::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            Architecture::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
            Architecture::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM"),
            Architecture::Llama | Architecture::Gpt2 => ("llama", "LlamaForCausalLM"),
        };
        config.extend(object(json!({
            "model_type": kind,
            "architectures": [class],
            "rope_theta": theta,
            "rope_scaling": scaling,
        })));
        config.extend(match self.architecture {
            Architecture::Gemma3 => self.gemma3(width, heads, head, layers)?,
            Architecture::Qwen2 | Architecture::Qwen3 => object(json!({
                "hidden_act": "silu",
                "attention_bias": self.has("blk.0.attn_output.bias"),
                "use_sliding_window": false,
            })),
            Architecture::Llama | Architecture::Gpt2 => object(json!({
                "hidden_act": "silu",
                "attention_bias": self.has("blk.0.attn_q.bias"),
                "mlp_bias": self.has("blk.0.ffn_up.bias"),
            })),
        });
        Ok(config)
    }

    fn gemma3(
        &mut self,
        width: u64,
        heads: u64,
        head: u64,
        layers: u64,
    ) -> Result<Map<String, Json>> {
        /// Layers of the 27B model, which scales queries in a way of its own.
        const LARGEST: u64 = 62;
        let pattern = self.optional_count("attention.sliding_window_pattern")?.unwrap_or(6).max(1);
        let kinds = (0..layers.min(1 << 12)).map(|layer| {
            if (layer + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" }
        });
        let scalar = if layers == LARGEST { width / heads.max(1) } else { head };
        Ok(object(json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": scalar,
            "sliding_window": self.count("attention.sliding_window")?,
            "layer_types": kinds.collect::<Vec<_>>(),
            "rope_local_base_freq": self.optional_number("rope.freq_base_swa")?.unwrap_or(1e4),
            "attention_bias": false,
            "attn_logit_softcapping": Json::Null,
            "final_logit_softcapping": self.optional_number("final_logit_softcapping")?,
        })))
    }

    /// transformers' `rope_scaling`; null where the frequencies are not scaled.
    fn rope_scaling(&mut self, theta: f64, head: u64) -> Result<Json> {
        let kind = match self.get("rope.scaling.type") {
            None => "none",
            Some(Value::String(kind)) => kind,
            Some(value) => return Err(self.wrong("rope.scaling.type", value, "a string")),
        };
        let older = self.optional_number("rope.scale_linear")?.filter(|&factor| factor != 1.0);
        let factor = self.optional_number("rope.scaling.factor")?;
        let original = self.optional_count("rope.scaling.original_context_length")?;
        let turns = self.rotary_factors(theta, head)?;
        Ok(match (kind, factor.or(older)) {
            ("none", None) => turns.unwrap_or(Json::Null),
            (_, Some(1.0)) if kind != "yarn" => turns.unwrap_or(Json::Null),
            ("linear" | "none", Some(factor)) if turns.is_none() => {
                json!({"rope_type": "linear", "factor": factor})
            }
            ("yarn", Some(factor)) if turns.is_none() => {
                let mut scaling = object(json!({"rope_type": "yarn", "factor": factor}));
                if let Some(original) = original {
                    scaling.insert("original_max_position_embeddings".into(), original.into());
                }
                for (key, name) in [
                    ("rope.scaling.yarn_beta_fast", "beta_fast"),
                    ("rope.scaling.yarn_beta_slow", "beta_slow"),
                ] {
                    if let Some(value) = self.optional_number(key)? {
                        scaling.insert(name.into(), value.into());
                    }
                }
                Json::Object(scaling)
            }
            _ => {
                return Err(Error::Unsupported {
                    what: format!("{}={kind:?}", self.key("rope.scaling.type")),
                    reason: "the native engine does not compute this rotary scaling",
                });
            }
        })
    }

    /// What the tensor of rotary factors says: Llama 3's scaling, for which llama.cpp stores the factors and
    /// not the numbers that they follow from.
    fn rotary_factors(&self, theta: f64, head: u64) -> Result<Option<Json>> {
        let Ok(tensor) = self.file.tensor("rope_freqs.weight") else { return Ok(None) };
        let unknown = || Error::Unsupported {
            what: "the tensor \"rope_freqs.weight\"".into(),
            reason: "it scales rotary frequencies in a way that the native engine does not know",
        };
        if tensor.elements() != head / 2 {
            return Err(unknown());
        }
        let mut factors = vec![0.0; head as usize / 2];
        self.file.read(&tensor, 0, &mut factors)?;
        let (low, high, original) = (1.0, 4.0, 8192.0);
        let factor = f64::from(factors.iter().copied().fold(0.0, f32::max));
        for (pair, &found) in factors.iter().enumerate() {
            let length = std::f64::consts::TAU * theta.powf(2.0 * pair as f64 / head as f64);
            let expected = if length < original / high {
                1.0
            } else if length > original / low {
                factor
            } else {
                let smooth = (original / length - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            };
            // The converter computed in float32.
            if (f64::from(found) - expected).abs() > 1e-4 * expected {
                return Err(unknown());
            }
        }
        Ok(Some(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })))
    }
}

/// A text that has to be there.
fn text<'a>(file: &'a Gguf, key: &str, purpose: &'static str) -> Result<&'a str> {
    let Some(value) = file.get(key) else {
        return Err(Error::MissingKey { key: key.to_owned(), purpose });
    };
    let wrong = || Error::Type { key: key.to_owned(), found: value.kind(), expected: "a string" };
    value.as_str().ok_or_else(wrong)
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}
