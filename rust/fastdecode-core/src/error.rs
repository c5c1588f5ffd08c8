//! Everything that can be wrong with what a caller hands over.

use thiserror::Error;

/// A refusal, before any work is done. The messages name the argument, the value, the place and
/// the fix; the binding passes them on as they are.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// A logit is not a number: usually an overflow in the model, or uninitialised weights.
    #[error(
        "logits[{row}, {column}] is NaN; check the model's output, or mask the token with -inf"
    )]
    NotANumber {
        /// The row of the batch.
        row: usize,
        /// The token id.
        column: usize,
    },
    /// A logit is +inf, for which no softmax exists. -inf is fine: it bans a token.
    #[error(
        "logits[{row}, {column}] is +inf, which has no softmax; \
         to force a token set all others to -inf"
    )]
    PositiveInfinity {
        /// The row of the batch.
        row: usize,
        /// The token id.
        column: usize,
    },
    /// Every token of a row is banned.
    #[error("logits row {row} has no finite entry: every token is banned; leave at least one")]
    NothingAllowed {
        /// The row of the batch.
        row: usize,
    },
    /// A row without tokens.
    #[error("logits have a vocabulary of size 0; the last axis must hold at least one token")]
    EmptyVocabulary,
    /// A row longer than the integer law has room for.
    #[error(
        "logits have a vocabulary of {size}, more than the {limit} that the sampler is exact for"
    )]
    VocabularyTooLarge {
        /// Tokens in a row.
        size: usize,
        /// The largest number accepted.
        limit: usize,
    },
    /// The temperature is negative, NaN or infinite.
    #[error("temperature={0} must be finite and >= 0 (0 is greedy, 1 leaves the model as it is)")]
    Temperature(f64),
    /// `top_k` below one.
    #[error("top_k={0} must be at least 1; leave it out (None) to keep every token")]
    TopK(i64),
    /// `k` beyond the vocabulary, where exactly k values are asked for.
    #[error("k={k} must be between 1 and the vocabulary size, {size}")]
    K {
        /// What was asked for.
        k: i64,
        /// Tokens in a row.
        size: usize,
    },
    /// A probability outside [0, 1], or NaN.
    #[error("{name}={value} must be between 0 and 1{hint}", hint = percent_hint(*.value))]
    Probability {
        /// The argument.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// A number that is negative, NaN or infinite where that makes no sense.
    #[error("{name}={value} must be finite and >= 0")]
    Negative {
        /// The argument.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// A dynamic temperature whose ends are the wrong way round.
    #[error("dynamic_temperature goes from {low} to {high}; give the lower one first")]
    TemperatureRange {
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// A fixed temperature beside a dynamic one.
    #[error(
        "temperature={0} and dynamic_temperature both set the temperature; give one of the two"
    )]
    TwoTemperatures(f64),
    /// Per-row arguments whose number differs from the rows'.
    #[error("{name} has {got} entries for {rows} rows of logits; give one a row")]
    Length {
        /// The argument.
        name: &'static str,
        /// Entries given.
        got: usize,
        /// Rows of the batch.
        rows: usize,
    },
    /// A token id outside the vocabulary.
    #[error("tokens[{row}]={token} is outside the vocabulary, 0..{size}")]
    Token {
        /// The row of the batch.
        row: usize,
        /// The id given.
        token: i64,
        /// Tokens in a row.
        size: usize,
    },
}

/// People who write 90 mean 90%.
fn percent_hint(value: f64) -> String {
    if value > 1.0 && value <= 100.0 {
        format!("; for {value}% write {}", value / 100.0)
    } else {
        String::new()
    }
}

impl Error {
    /// The same refusal, for another row: kernels see one row and call it 0.
    #[must_use]
    pub fn in_row(mut self, index: usize) -> Self {
        match &mut self {
            Self::NotANumber { row, .. }
            | Self::PositiveInfinity { row, .. }
            | Self::NothingAllowed { row }
            | Self::Token { row, .. } => *row = index,
            _ => {}
        }
        self
    }
}

/// The core's results.
pub type Result<T> = std::result::Result<T, Error>;
