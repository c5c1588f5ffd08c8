//! The candidates that a search compared, recorded where the caller requests it.

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It lived on, as this node.
    Kept(u32),
    /// It ended, as this node, and was among the candidates for a finished hypothesis.
    Finished(u32),
    /// It was dropped.
    Pruned,
}

/// A candidate that a step compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expansion {
    /// New tokens of the sequence, this one counted.
    pub step: u32,
    /// The node it grew from.
    pub parent: u32,
    /// The token.
    pub token: u32,
    /// The token's log-probability under the model, in nats.
    pub logprob: f64,
    /// The sum that was compared.
    pub score: f64,
    /// What became of it.
    pub fate: Fate,
}
