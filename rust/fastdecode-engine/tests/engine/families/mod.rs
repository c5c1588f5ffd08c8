//! The families beside GPT-2, on small models of each.

mod bits;
mod caches;
mod classic;
mod gated;
mod plain;
mod windows;

use crate::small::Named;
use fastdecode_core::philox::philox4x32;
use fastdecode_engine::{Config, Format, Level, Model, Tensors};
use std::path::Path;

pub const VOCABULARY: usize = 77;
pub const CONTEXT: usize = 70;

/// A small model: its configuration, its tensors, and its forward pass in float64.
pub struct Small {
    pub name: &'static str,
    config: serde_json::Value,
    /// As the plain forward pass names and orders them.
    weights: Named,
    /// As the model's file does.
    stored: Named,
    plain: plain::Plain,
}

impl Small {
    /// With weights that are drawn by their names.
    fn new(
        name: &'static str,
        config: serde_json::Value,
        shapes: Vec<(String, Vec<usize>)>,
        plain: plain::Plain,
    ) -> Self {
        let weights = shapes.into_iter().map(|(name, shape)| {
            let x = fill(&name, &shape);
            (name, (shape, x))
        });
        let weights: Named = weights.collect();
        Self { name, config, stored: weights.clone(), weights, plain }
    }

    /// With another order or other names in the model's file.
    fn with_weights(mut self, change: impl FnOnce(&mut Named)) -> Self {
        change(&mut self.stored);
        self
    }

    /// With a context of `context` tokens.
    fn with_context(mut self, context: usize) -> Self {
        self.config["max_position_embeddings"] = context.into();
        if let Some((shape, x)) = self.stored.get_mut("transformer.wpe.weight") {
            shape[0] = context;
            *x = fill("transformer.wpe.weight", shape);
        }
        self
    }

    pub fn model(&self, format: Format, level: Level, threads: usize) -> Model {
        let text = self.config.to_string();
        let config = Config::from_json(text.as_bytes(), Path::new("config.json")).unwrap();
        let file = crate::small::file(&self.stored, "");
        let tensors = Tensors::from_safetensors(&file).unwrap();
        Model::with(config, &tensors, format, level, threads).unwrap()
    }

    /// The text of its configuration.
    pub fn config(&self) -> String {
        self.config.to_string()
    }

    /// The logits after each token.
    fn exact(&self, tokens: &[u32]) -> Vec<f64> {
        self.exact_with(tokens, |_| ())
    }

    /// The logits after each token, where `kept` makes of a key or a value what the cache holds of it.
    fn exact_with(&self, tokens: &[u32], kept: fn(&mut [f64])) -> Vec<f64> {
        self.plain.logits(&self.weights, tokens, kept)
    }
}

/// All small models.
pub fn all() -> Vec<Small> {
    let mut all = gated::all();
    all.extend(classic::all());
    all
}

/// Gains around 1, biases in -0.25..0.25, and matrices whose outputs are about as large as their inputs.
fn fill(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name.bytes().fold(0u32, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into()));
    let scale = match shape {
        [_, inputs] => 3.0 / (*inputs as f32).sqrt(),
        _ => 0.5,
    };
    let middle = if shape.len() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
    (0..shape.iter().product())
        .map(|i: usize| {
            let word = philox4x32([i as u32, seed, 0, 0], [1, 2])[0];
            middle + scale * ((word >> 8) as f32 / (1u32 << 24) as f32 - 0.5)
        })
        .collect()
}
