//! What the targets of the engine's files check for a string of bytes: that no file panics, takes memory
//! that its size does not explain, or is read past its end; and that a model which loads also runs.

use crate::running::{place, run};
use crate::smallest::{SHAPES, SMALLEST, file_of, smallest, under_length};
use fastdecode_engine::{Checkpoint, Config, Format, Level, Model, Tensors};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Configurations of other families, for the fuzzers to begin with.
const FAMILIES: [&str; 5] = [
    r#"{"model_type": "llama", "vocab_size": 3, "max_position_embeddings": 8, "hidden_size": 4,
        "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 2,
        "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 4}}"#,
    r#"{"model_type": "gemma3_text", "vocab_size": 3, "max_position_embeddings": 8, "hidden_size": 4,
        "intermediate_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 2,
        "num_key_value_heads": 1, "sliding_window": 2, "query_pre_attn_scalar": 2,
        "layer_types": ["sliding_attention", "full_attention"], "rope_local_base_freq": 1e4}"#,
    r#"{"model_type": "gpt_neox", "vocab_size": 3, "max_position_embeddings": 8, "hidden_size": 4,
        "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "rotary_pct": 0.5,
        "rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 32, "beta_slow": 1}}"#,
    r#"{"model_type": "gpt_neo", "vocab_size": 3, "max_position_embeddings": 8, "hidden_size": 4,
        "intermediate_size": 4, "num_layers": 2, "num_heads": 2, "window_size": 2,
        "attention_types": [[["global", "local"], 1]]}"#,
    r#"{"model_type": "opt", "vocab_size": 3, "max_position_embeddings": 8, "hidden_size": 4,
        "word_embed_proj_dim": 4, "ffn_dim": 4, "num_hidden_layers": 1, "num_attention_heads": 2}"#,
];
/// The files of a model in two parts.
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// What the target `tensors` begins with: the whole file, and its header.
#[must_use]
pub fn tensor_seeds() -> Vec<Vec<u8>> {
    let file = smallest();
    let length = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
    let zeros = (file.len() - 8 - length) as u16;
    let header = [&[1], zeros.to_le_bytes().as_slice(), &file[8..8 + length]].concat();
    vec![[&[0], file.as_slice()].concat(), header]
}

/// What the target `config` begins with.
#[must_use]
pub fn config_seeds() -> Vec<Vec<u8>> {
    FAMILIES.into_iter().chain([SMALLEST]).map(Into::into).collect()
}

/// Any bytes as a safetensors file.
///
/// Odd bytes at the front say that a header follows, which gets its right length and some zeros after it:
/// otherwise a change to a header's length hides all of its other changes.
pub fn tensors(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let config = config_of(SMALLEST.as_bytes()).expect("the configuration is a good one");
    if kind % 2 == 0 {
        return load_file(&config, rest);
    }
    let Some((zeros, header)) = rest.split_first_chunk::<2>() else { return };
    let Ok(header) = std::str::from_utf8(header) else { return };
    let mut file = under_length(header);
    file.resize(file.len() + usize::from(u16::from_le_bytes(*zeros)), 0);
    load_file(&config, &file);
}

/// Any bytes as a `config.json`, for the weights of one model.
pub fn config(data: &[u8]) {
    if let Some(config) = config_of(data) {
        load_file(&config, &smallest());
    }
}

/// Any bytes as the index of a model in two files.
pub fn index(data: &[u8]) {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = place("shards");
        let _ = std::fs::create_dir(&folder);
        for (which, name) in SHARDS.into_iter().enumerate() {
            let here = SHAPES.into_iter().skip(which).step_by(2).collect::<Vec<_>>();
            std::fs::write(folder.join(name), file_of(&here)).expect("a file of weights");
        }
        folder
    });
    std::fs::write(FOLDER.join("model.safetensors.index.json"), data).expect("an index");
    let Ok(checkpoint) = Checkpoint::open(&FOLDER) else { return };
    let Ok(tensors) = checkpoint.tensors() else { return };
    let config = config_of(SMALLEST.as_bytes()).expect("the configuration is a good one");
    load(&config, &tensors, smallest().len());
}

/// What the target `index` begins with: the index of that model's two files.
#[must_use]
pub fn index_seeds() -> Vec<Vec<u8>> {
    let place = |(i, (name, _)): (usize, &(&str, _))| format!(r#""{name}":"{}""#, SHARDS[i % 2]);
    let places: Vec<_> = SHAPES.iter().enumerate().map(place).collect();
    let map = places.join(",");
    vec![format!(r#"{{"metadata":{{"total_size":248}},"weight_map":{{{map}}}}}"#).into()]
}

fn config_of(text: &[u8]) -> Option<Config> {
    Config::from_json(text, Path::new("config.json")).ok()
}

/// Loads the model in a file in every format; one that loads is run.
fn load_file(config: &Config, file: &[u8]) {
    if let Ok(tensors) = Tensors::from_safetensors(file) {
        load(config, &tensors, file.len());
    }
}

fn load(config: &Config, tensors: &Tensors<'_>, size: usize) {
    for format in Format::ALL {
        if let Ok(model) = Model::with(config.clone(), tensors, format, Level::detect(), 1) {
            run(&model, size);
        }
    }
}
