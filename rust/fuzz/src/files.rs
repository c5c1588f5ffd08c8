//! What the targets of the engine's files check for a string of bytes: that no file panics, takes memory
//! that its size does not explain, or is read past its end; and that a model which loads also runs.

use fastdecode_engine::{Config, Format, Level, Model, Tensors, Wanted, Workspace};
use std::path::Path;

/// The configuration of a model of 62 numbers, so that a file of a few hundred bytes can have all of its
/// tensors.
pub const SMALLEST: &str = r#"{"model_type": "gpt2", "vocab_size": 3, "n_positions": 2, "n_embd": 2,
    "n_layer": 1, "n_head": 1, "n_inner": 2}"#;
const SHAPES: [(&str, &[usize]); 16] = [
    ("wte.weight", &[3, 2]),
    ("wpe.weight", &[2, 2]),
    ("ln_f.weight", &[2]),
    ("ln_f.bias", &[2]),
    ("h.0.ln_1.weight", &[2]),
    ("h.0.ln_1.bias", &[2]),
    ("h.0.attn.c_attn.weight", &[2, 6]),
    ("h.0.attn.c_attn.bias", &[6]),
    ("h.0.attn.c_proj.weight", &[2, 2]),
    ("h.0.attn.c_proj.bias", &[2]),
    ("h.0.ln_2.weight", &[2]),
    ("h.0.ln_2.bias", &[2]),
    ("h.0.mlp.c_fc.weight", &[2, 2]),
    ("h.0.mlp.c_fc.bias", &[2]),
    ("h.0.mlp.c_proj.weight", &[2, 2]),
    ("h.0.mlp.c_proj.bias", &[2]),
];

/// The safetensors file of that model, for the fuzzers to begin with.
#[must_use]
pub fn smallest() -> Vec<u8> {
    let mut end = 0;
    let entries: Vec<String> = SHAPES
        .iter()
        .map(|(name, shape)| {
            let begin = end;
            end += 4 * shape.iter().product::<usize>();
            format!(
                r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
            )
        })
        .collect();
    let values: Vec<u8> =
        (0..end / 4).flat_map(|i| (i as f32 / 64.0 - 0.5).to_le_bytes()).collect();
    [under_length(&format!("{{{}}}", entries.join(","))), values].concat()
}

/// A header with its length before it.
fn under_length(header: &str) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat()
}

/// Any bytes as a safetensors file.
///
/// Odd bytes at the front say that a header follows, which gets its right length and some zeros after it:
/// otherwise a change to a header's length hides all of its other changes.
pub fn tensors(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let config = config_of(SMALLEST.as_bytes()).expect("the configuration is a good one");
    if kind % 2 == 0 {
        return load(&config, rest);
    }
    let Some((zeros, header)) = rest.split_first_chunk::<2>() else { return };
    let Ok(header) = std::str::from_utf8(header) else { return };
    let mut file = under_length(header);
    file.resize(file.len() + usize::from(u16::from_le_bytes(*zeros)), 0);
    load(&config, &file);
}

/// Any bytes as a `config.json`, for the weights of one model.
pub fn config(data: &[u8]) {
    if let Some(config) = config_of(data) {
        load(&config, &smallest());
    }
}

fn config_of(text: &[u8]) -> Option<Config> {
    Config::from_json(text, Path::new("config.json")).ok()
}

/// Loads a model in every format; one that loads is run.
fn load(config: &Config, file: &[u8]) {
    let Ok(tensors) = Tensors::from_safetensors(file) else { return };
    for format in Format::ALL {
        let Ok(model) = Model::with(config.clone(), &tensors, format, Level::detect(), 1) else {
            continue;
        };
        // The weights are padded to whole panels, which are at most 64 kB wide for the models of a file.
        assert!(model.bytes() < 64 * file.len() + (1 << 20));
        let mut logits = vec![0.0; config.vocab_size()];
        model
            .forward(
                &mut [model.sequence()],
                &[&[0]],
                Wanted::Last,
                &mut Workspace::default(),
                &mut logits,
            )
            .expect("a sequence of one known token");
    }
}
