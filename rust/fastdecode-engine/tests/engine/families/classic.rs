//! Small models of the families with layer norms and an MLP without gates.

use super::plain::{Names, Norm, Plain, gelu_erf, gelu_tanh, rope};
use super::{CONTEXT, Small, VOCABULARY};
use crate::small::Named;
use serde_json::json;

const WIDTH: usize = 48;
const HEADS: usize = 3;
const HEAD_WIDTH: usize = WIDTH / HEADS;
const INNER: usize = 150;
const LAYERS: usize = 2;

pub fn all() -> Vec<Small> {
    vec![gpt_neox(true), gpt_neox(false), gpt_neo(), opt(), gpt2_variant()]
}

fn plain(names: Names) -> Plain {
    Plain {
        names,
        norm: Norm::Layer,
        epsilon: 1e-5,
        heads: HEADS,
        kv_heads: HEADS,
        head_width: HEAD_WIDTH,
        scales: vec![1.0 / (HEAD_WIDTH as f64).sqrt(); LAYERS],
        windows: vec![None; LAYERS],
        ropes: vec![None; LAYERS],
        activation: gelu_erf,
        parallel: false,
        embedding_scale: 1.0,
        position_offset: 0,
    }
}

/// The tensors that the names call for, all linear layers with a bias except those of `plain`.
fn shapes(names: &Names, positions: usize, plain: &[&str]) -> Vec<(String, Vec<usize>)> {
    let weight = |name: &str| format!("{name}.weight");
    let mut found = vec![(weight(names.tokens), vec![VOCABULARY, WIDTH])];
    if let Some(name) = names.positions {
        found.push((weight(name), vec![positions, WIDTH]));
    }
    if names.head != names.tokens {
        found.push((weight(names.head), vec![VOCABULARY, WIDTH]));
    }
    let mut norm = |name: &str| {
        found.push((weight(name), vec![WIDTH]));
        found.push((format!("{name}.bias"), vec![WIDTH]));
    };
    norm(names.norm);
    for layer in 0..LAYERS {
        for part in [names.norm_1, names.norm_2] {
            norm(&format!("{}.{layer}.{part}", names.layer));
        }
    }
    for layer in 0..LAYERS {
        let [q, k, v] = names.qkv;
        for (part, outputs, inputs) in [
            (q, WIDTH, WIDTH),
            (k, WIDTH, WIDTH),
            (v, WIDTH, WIDTH),
            (names.out, WIDTH, WIDTH),
            (names.up, INNER, WIDTH),
            (names.down, WIDTH, INNER),
        ] {
            let name = format!("{}.{layer}.{part}", names.layer);
            found.push((weight(&name), vec![outputs, inputs]));
            if !plain.contains(&part) {
                found.push((format!("{name}.bias"), vec![outputs]));
            }
        }
    }
    found
}

fn gpt_neox(parallel: bool) -> Small {
    let mut plain = plain(Names {
        layer: "gpt_neox.layers",
        norm_1: "input_layernorm",
        qkv: ["attention.q", "attention.k", "attention.v"],
        head_norms: None,
        out: "attention.dense",
        after_attention: None,
        norm_2: "post_attention_layernorm",
        gate: None,
        up: "mlp.dense_h_to_4h",
        down: "mlp.dense_4h_to_h",
        after_mlp: None,
        norm: "gpt_neox.final_layer_norm",
        tokens: "gpt_neox.embed_in",
        positions: None,
        head: "embed_out",
    });
    plain.parallel = parallel;
    plain.ropes.fill(Some(rope(10_000.0, HEAD_WIDTH / 4)));
    let config = json!({
        "model_type": "gpt_neox",
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10_000,
        "use_parallel_residual": parallel,
    });
    let name = if parallel { "gpt_neox" } else { "gpt_neox, one after the other" };
    let shapes = shapes(&plain.names, 0, &[]);
    Small::new(name, config, shapes, plain).with_weights(|named| {
        for layer in 0..LAYERS {
            join_heads(named, &format!("gpt_neox.layers.{layer}.attention"));
        }
    })
}

/// Queries, keys and values in one tensor, head by head.
fn join_heads(named: &mut Named, prefix: &str) {
    for kind in ["weight", "bias"] {
        let parts = ["q", "k", "v"].map(|part| named[&format!("{prefix}.{part}.{kind}")].clone());
        let size = parts[0].1.len() / HEADS;
        let mut joined = Vec::new();
        for head in 0..HEADS {
            for (_, x) in &parts {
                joined.extend_from_slice(&x[head * size..(head + 1) * size]);
            }
        }
        let mut shape = parts[0].0.clone();
        shape[0] *= 3;
        named.insert(format!("{prefix}.query_key_value.{kind}"), (shape, joined));
    }
}

fn gpt_neo() -> Small {
    let mut plain = plain(Names {
        layer: "transformer.h",
        norm_1: "ln_1",
        qkv: ["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"],
        head_norms: None,
        out: "attn.attention.out_proj",
        after_attention: None,
        norm_2: "ln_2",
        gate: None,
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        after_mlp: None,
        norm: "transformer.ln_f",
        tokens: "transformer.wte",
        positions: Some("transformer.wpe"),
        head: "transformer.wte",
    });
    plain.scales.fill(1.0);
    plain.windows = vec![None, Some(18)];
    plain.activation = gelu_tanh;
    let config = json!({
        "model_type": "gpt_neo",
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 18,
    });
    let shapes = shapes(&plain.names, CONTEXT, &plain.names.qkv);
    Small::new("gpt_neo", config, shapes, plain)
}

fn opt() -> Small {
    let mut plain = plain(Names {
        layer: "model.decoder.layers",
        norm_1: "self_attn_layer_norm",
        qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        head_norms: None,
        out: "self_attn.out_proj",
        after_attention: None,
        norm_2: "final_layer_norm",
        gate: None,
        up: "fc1",
        down: "fc2",
        after_mlp: None,
        norm: "model.decoder.final_layer_norm",
        tokens: "model.decoder.embed_tokens",
        positions: Some("model.decoder.embed_positions"),
        head: "model.decoder.embed_tokens",
    });
    plain.position_offset = 2;
    plain.activation = |x| x.max(0.0);
    let config = json!({
        "model_type": "opt",
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
    });
    let shapes = shapes(&plain.names, CONTEXT + 2, &[]);
    Small::new("opt", config, shapes, plain)
}

/// A GPT-2 with a head of its own, the exact GELU, and scales that differ between layers.
fn gpt2_variant() -> Small {
    let mut plain = plain(Names {
        layer: "transformer.h",
        norm_1: "ln_1",
        qkv: ["attn.q", "attn.k", "attn.v"],
        head_norms: None,
        out: "attn.c_proj",
        after_attention: None,
        norm_2: "ln_2",
        gate: None,
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        after_mlp: None,
        norm: "transformer.ln_f",
        tokens: "transformer.wte",
        positions: Some("transformer.wpe"),
        head: "lm_head",
    });
    plain.scales[1] /= 2.0;
    let config = json!({
        "model_type": "gpt2",
        "vocab_size": VOCABULARY,
        "n_positions": CONTEXT,
        "n_embd": WIDTH,
        "n_inner": INNER,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "activation_function": "gelu",
        "scale_attn_by_inverse_layer_idx": true,
        "tie_word_embeddings": false,
    });
    let shapes = shapes(&plain.names, CONTEXT, &[]);
    Small::new("gpt2 with variants", config, shapes, plain).with_weights(|named| {
        for layer in 0..LAYERS {
            let name = |part: &str| format!("transformer.h.{layer}.{part}");
            let mut joined = (vec![3 * WIDTH, WIDTH], Vec::new());
            let mut bias = (vec![3 * WIDTH], Vec::new());
            for part in ["q", "k", "v"] {
                joined.1.extend_from_slice(&named[&name(&format!("attn.{part}.weight"))].1);
                bias.1.extend_from_slice(&named[&name(&format!("attn.{part}.bias"))].1);
            }
            named.insert(name("attn.c_attn.weight"), joined);
            named.insert(name("attn.c_attn.bias"), bias);
            for part in ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"] {
                transpose(named.get_mut(&name(&format!("{part}.weight"))).unwrap());
            }
        }
    })
}

/// From (outputs, inputs) to (inputs, outputs).
fn transpose((shape, x): &mut (Vec<usize>, Vec<f32>)) {
    let (outputs, inputs) = (shape[0], shape[1]);
    *x = (0..inputs * outputs).map(|i| x[i % outputs * inputs + i / outputs]).collect();
    shape.reverse();
}
