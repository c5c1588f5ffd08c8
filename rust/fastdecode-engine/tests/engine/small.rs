//! A small GPT-2 with deterministic weights, and its safetensors file.

use fastdecode_core::philox::philox4x32;
use fastdecode_engine::Level;
use fastdecode_engine::{Config, Format, Model, Tensors, Wanted, Workspace};
use safetensors::tensor::{Dtype as Stored, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Names, shapes and float32 elements.
pub type Named = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub const VOCABULARY: usize = 77;
pub const CONTEXT: usize = 70;

pub fn config_json() -> String {
    format!(
        r#"{{"model_type": "gpt2", "vocab_size": {VOCABULARY}, "n_positions": {CONTEXT},
            "n_embd": 40, "n_head": 2, "n_layer": 2, "n_inner": 600}}"#
    )
}

pub fn config() -> Config {
    Config::from_json(config_json().as_bytes(), Path::new("config.json")).unwrap()
}

/// Weights in -0.5..0.5, large enough that every part of the model tells.
pub fn weights() -> Named {
    let (e, inner) = (40, 600);
    let mut shapes = vec![
        ("wte.weight".to_owned(), vec![VOCABULARY, e]),
        ("wpe.weight".to_owned(), vec![CONTEXT, e]),
        ("ln_f.weight".to_owned(), vec![e]),
        ("ln_f.bias".to_owned(), vec![e]),
    ];
    for layer in 0..2 {
        for (part, shape) in [
            ("ln_1.weight", vec![e]),
            ("ln_1.bias", vec![e]),
            ("attn.c_attn.weight", vec![e, 3 * e]),
            ("attn.c_attn.bias", vec![3 * e]),
            ("attn.c_proj.weight", vec![e, e]),
            ("attn.c_proj.bias", vec![e]),
            ("ln_2.weight", vec![e]),
            ("ln_2.bias", vec![e]),
            ("mlp.c_fc.weight", vec![e, inner]),
            ("mlp.c_fc.bias", vec![inner]),
            ("mlp.c_proj.weight", vec![inner, e]),
            ("mlp.c_proj.bias", vec![e]),
        ] {
            shapes.push((format!("h.{layer}.{part}"), shape));
        }
    }
    let fill = |tensor: usize, shape: &[usize]| {
        let count: usize = shape.iter().product();
        (0..count)
            .map(|i| {
                let word = philox4x32([i as u32, tensor as u32, 0, 0], [1, 2])[0];
                (word >> 8) as f32 / (1u32 << 24) as f32 - 0.5
            })
            .collect()
    };
    shapes
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| (name, (shape.clone(), fill(i, &shape))))
        .collect()
}

/// The file as transformers writes it, with each tensor as float32, and a prefix to its name.
pub fn file(named: &Named, prefix: &str) -> Vec<u8> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = named
        .iter()
        .map(|(name, (shape, x))| {
            let bytes = x.iter().flat_map(|x| x.to_le_bytes()).collect();
            (format!("{prefix}{name}"), shape.clone(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Stored::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

pub fn model(level: Level, threads: usize) -> Model {
    model_of(Format::Float32, level, threads)
}

pub fn model_of(format: Format, level: Level, threads: usize) -> Model {
    let file = file(&weights(), "transformer.");
    let tensors = Tensors::from_safetensors(&file).unwrap();
    Model::with(config(), &tensors, format, level, threads).unwrap()
}

/// The logits behind each of the tokens, as bits.
pub fn logits(model: &Model, tokens: &[u32]) -> Vec<u32> {
    let mut out = vec![0.0; tokens.len() * VOCABULARY];
    let mut sequence = [model.sequence()];
    model
        .forward(&mut sequence, &[tokens], Wanted::All, &mut Workspace::default(), &mut out)
        .unwrap();
    bits(&out)
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Tokens of row `row`, by formula.
pub fn tokens(row: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((row * 31 + i * 17 + i * i) % VOCABULARY) as u32).collect()
}
