//! The smallest model: 62 numbers, so that a file of a few hundred bytes can have all of its tensors.

/// Its configuration.
pub const SMALLEST: &str = r#"{"model_type": "gpt2", "vocab_size": 3, "n_positions": 2, "n_embd": 2,
    "n_layer": 1, "n_head": 1, "n_inner": 2}"#;
/// The shapes of its tensors.
pub const SHAPES: [(&str, &[usize]); 16] = [
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

/// Its safetensors file.
#[must_use]
pub fn smallest() -> Vec<u8> {
    file_of(&SHAPES)
}

/// The safetensors file of some tensors.
#[must_use]
pub fn file_of(shapes: &[(&str, &[usize])]) -> Vec<u8> {
    let mut end = 0;
    let entries: Vec<String> = shapes
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
#[must_use]
pub fn under_length(header: &str) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat()
}
