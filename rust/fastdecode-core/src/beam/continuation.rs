//! A beam with one more token, and the order in which beams compare them.

use std::cmp::Ordering;

/// A beam with one more token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Continuation {
    /// The beam's index among the rows of its prompt.
    pub parent: u32,
    pub token: u32,
    /// The token's own log-probability under the model.
    pub logprob: f64,
    /// The sum that the search compares: log-probabilities less diversity penalties.
    pub score: f64,
    /// The perturbed log-probability, where the choice is random; otherwise unused.
    pub gumbel: f64,
}

impl Continuation {
    /// Larger score first, then the earlier beam, then the lower token id.
    pub fn order(&self, other: &Self) -> Ordering {
        // Adding zero turns -0.0 into 0.0.
        (other.score + 0.0)
            .total_cmp(&(self.score + 0.0))
            .then(self.parent.cmp(&other.parent))
            .then(self.token.cmp(&other.token))
    }
}
