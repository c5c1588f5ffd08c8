//! Fields of a configuration that no architecture here reads, and that change what transformers computes.

use super::checks;
use crate::error::Result;
use serde_json::Value;

/// Fields that must be absent or null.
const ABSENT: &[&str] = &[
    "attention_chunk_size",
    "fusion_config",
    "kv_sharing_modes",
    "per_layer_config",
    "quantization_config",
    "transformers_weights",
];
/// The architectures without windows. The cache that transformers makes for them has windows nevertheless
/// where one of these fields says so.
const WITHOUT_WINDOWS: &[&str] = &["gpt2", "gpt_neo", "gpt_neox", "llama", "opt"];

/// Refuses a configuration with such a field.
pub(crate) fn check(fields: &Value, model_type: &str) -> Result<()> {
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    for name in ABSENT {
        if let Some(value) = given(name) {
            return checks::refuse(name, shortened(value), checks::OTHER);
        }
    }
    // Null means false here.
    if let Some(value) = fields.get("is_causal").filter(|value| **value != Value::Bool(true)) {
        return checks::refuse("is_causal", shortened(value), checks::OTHER);
    }
    if WITHOUT_WINDOWS.contains(&model_type) {
        if let Some(value) = given("sliding_window") {
            return checks::refuse("sliding_window", shortened(value), checks::OTHER);
        }
        let full = |value: &Value| {
            value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "full_attention"))
        };
        if let Some(value) = given("layer_types").filter(|value| !full(value)) {
            return checks::refuse("layer_types", shortened(value), checks::OTHER);
        }
    }
    Ok(())
}

/// The beginning of a value's text.
fn shortened(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
