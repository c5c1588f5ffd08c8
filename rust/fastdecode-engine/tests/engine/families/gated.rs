//! Small models of Llama and the families after it.

use super::plain::{Names, Norm, Plain, Rope, gelu_tanh, rope, silu};
use super::{CONTEXT, Small, VOCABULARY};
use serde_json::{Value, json};

const WIDTH: usize = 40;
const INNER: usize = 150;
const LAYERS: usize = 2;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD_WIDTH: usize = 20;
const THETA: f64 = 10_000.0;

pub fn all() -> Vec<Small> {
    vec![llama(), llama3(), yarn(), qwen2(), qwen3(), mistral(), smollm3(), gemma3()]
}

fn names() -> Names {
    Names {
        layer: "model.layers",
        norm_1: "input_layernorm",
        qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        head_norms: None,
        out: "self_attn.o_proj",
        after_attention: None,
        norm_2: "post_attention_layernorm",
        gate: Some("mlp.gate_proj"),
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        after_mlp: None,
        norm: "model.norm",
        tokens: "model.embed_tokens",
        positions: None,
        head: "model.embed_tokens",
    }
}

fn plain() -> Plain {
    Plain {
        names: names(),
        norm: Norm::Rms { plus: 0.0 },
        epsilon: 1e-6,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_width: HEAD_WIDTH,
        scales: vec![1.0 / (HEAD_WIDTH as f64).sqrt(); LAYERS],
        windows: vec![None; LAYERS],
        ropes: vec![Some(rope(THETA, HEAD_WIDTH)); LAYERS],
        activation: silu,
        parallel: false,
        embedding_scale: 1.0,
        position_offset: 0,
    }
}

fn config(kind: &str, more: &Value) -> Value {
    let mut fields = json!({
        "model_type": kind,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_WIDTH,
        "rms_norm_eps": 1e-6,
        "rope_theta": THETA,
        "tie_word_embeddings": true,
    });
    for (name, value) in more.as_object().unwrap() {
        fields[name] = value.clone();
    }
    fields
}

/// The tensors that the names call for; `biased` are those linear layers that have a bias.
fn shapes(names: &Names, biased: &[&str]) -> Vec<(String, Vec<usize>)> {
    let (queries, keys) = (HEADS * HEAD_WIDTH, KV_HEADS * HEAD_WIDTH);
    let mut found = vec![
        (format!("{}.weight", names.tokens), vec![VOCABULARY, WIDTH]),
        (format!("{}.weight", names.norm), vec![WIDTH]),
    ];
    if names.head != names.tokens {
        found.push((format!("{}.weight", names.head), vec![VOCABULARY, WIDTH]));
    }
    for layer in 0..LAYERS {
        let name = |part: &str, kind: &str| format!("{}.{layer}.{part}.{kind}", names.layer);
        let [q, k, v] = names.qkv;
        let linear = [
            (q, queries, WIDTH),
            (k, keys, WIDTH),
            (v, keys, WIDTH),
            (names.out, WIDTH, queries),
            (names.gate.unwrap(), INNER, WIDTH),
            (names.up, INNER, WIDTH),
            (names.down, WIDTH, INNER),
        ];
        for (part, outputs, inputs) in linear {
            found.push((name(part, "weight"), vec![outputs, inputs]));
            if biased.contains(&part) {
                found.push((name(part, "bias"), vec![outputs]));
            }
        }
        let around =
            [Some(names.norm_1), Some(names.norm_2), names.after_attention, names.after_mlp];
        for part in around.into_iter().flatten() {
            found.push((name(part, "weight"), vec![WIDTH]));
        }
        for part in names.head_norms.into_iter().flatten() {
            found.push((name(part, "weight"), vec![HEAD_WIDTH]));
        }
    }
    found
}

fn llama() -> Small {
    let names = names();
    let shapes = shapes(&names, &[]);
    Small::new("llama", config("llama", &json!({})), shapes, plain())
}

/// With biases, a head of its own, and the rotary embedding of Llama 3.
fn llama3() -> Small {
    let more = json!({
        "attention_bias": true,
        "mlp_bias": true,
        "tie_word_embeddings": false,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 30,
        },
    });
    let mut plain = plain();
    plain.names.head = "lm_head";
    let mut rope = rope(THETA, HEAD_WIDTH);
    for frequency in &mut rope.frequencies {
        // Turns within the original context.
        let turns = 30.0 * *frequency / (2.0 * std::f64::consts::PI);
        let kept = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
        *frequency *= kept + (1.0 - kept) / 8.0;
    }
    plain.ropes.fill(Some(rope));
    let [q, k, v] = plain.names.qkv;
    let biased = [q, k, v, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
    Small::new("llama3", config("llama", &more), shapes(&plain.names, &biased), plain)
}

fn yarn() -> Small {
    let more = json!({
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": THETA,
            "factor": 4.0,
            "beta_fast": 4.0,
            "original_max_position_embeddings": 40,
        },
    });
    let mut plain = plain();
    let Rope { frequencies, .. } = rope(THETA, HEAD_WIDTH);
    // The pair that turns so often within the original context.
    let pair = |turns: f64| {
        let log = (40.0 / (turns * 2.0 * std::f64::consts::PI)).ln() / THETA.ln();
        HEAD_WIDTH as f64 / 2.0 * log
    };
    let (low, high) = (pair(4.0).floor().max(0.0), pair(1.0).ceil());
    let frequencies = frequencies.iter().enumerate().map(|(i, frequency)| {
        let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        frequency * (1.0 - divided + divided / 4.0)
    });
    let scale = 1.0 + 0.1 * 4f64.ln();
    plain.ropes.fill(Some(Rope { frequencies: frequencies.collect(), scale }));
    let shapes = shapes(&plain.names, &[]);
    Small::new("yarn", config("llama", &more), shapes, plain)
}

fn qwen2() -> Small {
    let plain = plain();
    let shapes = shapes(&plain.names, &plain.names.qkv);
    Small::new("qwen2", config("qwen2", &json!({})), shapes, plain)
}

/// With a window in its second layer.
fn qwen3() -> Small {
    let more = json!({"use_sliding_window": true, "sliding_window": 20, "max_window_layers": 1});
    let mut plain = plain();
    plain.names.head_norms = Some(["self_attn.q_norm", "self_attn.k_norm"]);
    plain.windows = vec![None, Some(20)];
    let shapes = shapes(&plain.names, &[]);
    Small::new("qwen3", config("qwen3", &more), shapes, plain)
}

fn mistral() -> Small {
    let mut plain = plain();
    plain.windows = vec![Some(9); LAYERS];
    let shapes = shapes(&plain.names, &[]);
    Small::new("mistral", config("mistral", &json!({"sliding_window": 9})), shapes, plain)
}

fn smollm3() -> Small {
    let mut plain = plain();
    plain.ropes[1] = None;
    let shapes = shapes(&plain.names, &[]);
    let more = json!({"no_rope_layer_interval": 2});
    Small::new("smollm3", config("smollm3", &more), shapes, plain)
}

fn gemma3() -> Small {
    let more = json!({
        "sliding_window": 17,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_local_base_freq": 500.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "query_pre_attn_scalar": 30,
    });
    let mut plain = plain();
    plain.norm = Norm::Rms { plus: 1.0 };
    plain.names.head_norms = Some(["self_attn.q_norm", "self_attn.k_norm"]);
    plain.names.after_attention = Some("post_attention_layernorm");
    plain.names.norm_2 = "pre_feedforward_layernorm";
    plain.names.after_mlp = Some("post_feedforward_layernorm");
    plain.windows = vec![Some(17), None];
    let mut full = rope(THETA, HEAD_WIDTH);
    full.frequencies.iter_mut().for_each(|frequency| *frequency /= 8.0);
    plain.ropes = vec![Some(rope(500.0, HEAD_WIDTH)), Some(full)];
    plain.scales.fill(1.0 / 30f64.sqrt());
    plain.activation = gelu_tanh;
    plain.embedding_scale = (WIDTH as f64).sqrt();
    let shapes = shapes(&plain.names, &[]);
    Small::new("gemma3_text", config("gemma3_text", &more), shapes, plain)
}
