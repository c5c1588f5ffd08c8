//! What decides a draw besides the row and the parameters.

use crate::rng::key::Key;

/// What decides a draw besides the row and the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DrawContext {
    /// The randomness.
    pub key: Key,
    /// Mirostat's bound on surprisals, in bits; None or NaN at the start of a sequence.
    pub mu: Option<f64>,
}

impl From<Key> for DrawContext {
    fn from(key: Key) -> Self {
        Self { key, mu: None }
    }
}
