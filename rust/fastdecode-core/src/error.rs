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
    /// An environment variable with a value that cannot be used.
    #[error(transparent)]
    Setting(#[from] fastdecode_simd::SettingError),
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
    /// More different tokens wanted than can be drawn.
    #[error(
        "num_samples={wanted} without replacement, but only {tokens} tokens can be drawn; \
         ask for fewer, or loosen the truncation"
    )]
    TooFewTokens {
        /// What was asked for.
        wanted: usize,
        /// Tokens with a probability above zero.
        tokens: u64,
    },
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
    /// A `repetition_penalty` that is not a positive number.
    #[error(
        "repetition_penalty={0} must be a finite float32 above 0 \
         (1 is off, above 1 discourages repeats)"
    )]
    RepetitionPenalty(f64),
    /// A penalty that is NaN or infinite.
    #[error("{name}={value} must be a finite float32 (0 is off, above 0 discourages repeats)")]
    Penalty {
        /// The argument.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// `no_repeat_ngram_size` below zero.
    #[error("no_repeat_ngram_size={0} must be at least 1, or 0 to turn it off")]
    NoRepeatNgramSize(i64),
    /// `dry_multiplier` negative, NaN or infinite.
    #[error("dry_multiplier={0} must be finite and >= 0 (0 is off, 0.8 is usual)")]
    DryMultiplier(f64),
    /// `dry_base` below one, NaN or infinite.
    #[error("dry_base={0} must be finite and >= 1 (1.75 is usual)")]
    DryBase(f64),
    /// `dry_allowed_length` below one.
    #[error("dry_allowed_length={0} must be at least 1 token (2 is usual)")]
    DryAllowedLength(i64),
    /// `dry_range` below one.
    #[error("dry_range={0} must be at least 1 token; leave it out (None) to look at all")]
    DryRange(i64),
    /// A token sequence without tokens.
    #[error("{name}[{index}] is empty; give at least one token id, or leave it out")]
    EmptySequence {
        /// The argument.
        name: &'static str,
        /// Which of its sequences.
        index: usize,
    },
    /// A bias that is NaN or +inf.
    #[error(
        "logit_bias of {tokens:?} is {bias}; give a finite float32, or -inf to ban it \
         (to force a token, use allowed)"
    )]
    LogitBias {
        /// The biased sequence.
        tokens: Vec<u32>,
        /// What was given.
        bias: f32,
    },
    /// A sequence with more than one bias.
    #[error("logit_bias has {tokens:?} more than once; give each token or sequence one bias")]
    LogitBiasTwice {
        /// The sequence.
        tokens: Vec<u32>,
    },
    /// `min_new_tokens` below zero.
    #[error("min_new_tokens={0} must be at least 0 (0 is off)")]
    MinNewTokens(i64),
    /// A minimum length without the tokens that end a sequence.
    #[error(
        "min_new_tokens={min_new_tokens} works by banning the end-of-sequence tokens, \
         and none are known; give eos_token_id, or leave min_new_tokens out"
    )]
    NoEos {
        /// What was asked for.
        min_new_tokens: i64,
    },
    /// An `allowed` without tokens.
    #[error("allowed=[] bans every token; give at least one id, or None to allow all")]
    NoneAllowed,
    /// A token id in an argument that no row has.
    #[error("{name} has token id {token}, which is outside the vocabulary, 0..{size}")]
    UnknownToken {
        /// The argument.
        name: &'static str,
        /// The id given.
        token: u32,
        /// Tokens in a row.
        size: usize,
    },
    /// A token id in a history that no row has.
    #[error(
        "history[{row}] has token id {token} at position {position}, \
         which is outside the vocabulary, 0..{size}; leave padding out"
    )]
    HistoryToken {
        /// The row of the batch.
        row: usize,
        /// Where in the row's history.
        position: usize,
        /// The id given.
        token: u32,
        /// Tokens in a row.
        size: usize,
    },
    /// A prompt longer than the history that it begins.
    #[error(
        "history[{row}] has {size} tokens, fewer than the {prompt} of its prompt; \
         a history is the prompt and what was generated"
    )]
    Prompt {
        /// The row of the batch.
        row: usize,
        /// Tokens said to be the prompt's.
        prompt: usize,
        /// Tokens in the history.
        size: usize,
    },
    /// Every token that the model left is banned by the caller's own settings.
    #[error("logits row {row} has no token left after {edits}; loosen what bans too much")]
    AllBanned {
        /// The row of the batch.
        row: usize,
        /// The settings that ban, by name.
        edits: String,
    },
    /// A uniform integer from elsewhere that is no ticket of the law.
    #[error("ticket {ticket} must be below the law's total weight, {total}")]
    Ticket {
        /// What was given.
        ticket: u64,
        /// W, the number of tickets.
        total: u64,
    },
    /// A number of beams that is no number of beams.
    #[error("num_beams={got} must be between 1 and {limit}; 1 is greedy")]
    NumBeams {
        /// What was asked for.
        got: i64,
        /// The largest number accepted.
        limit: usize,
    },
    /// More sequences asked for than beams are kept, or none.
    #[error(
        "num_return_sequences={got} must be between 1 and num_beams={num_beams}; \
         raise num_beams to get more"
    )]
    NumReturnSequences {
        /// What was asked for.
        got: i64,
        /// Beams kept.
        num_beams: usize,
    },
    /// Groups that do not divide the beams evenly.
    #[error(
        "num_beam_groups={got} does not divide num_beams={num_beams} into groups of equal size; \
         use one of its divisors"
    )]
    BeamGroups {
        /// What was asked for.
        got: i64,
        /// Beams to divide.
        num_beams: usize,
    },
    /// The length penalty is NaN or infinite.
    #[error(
        "length_penalty={0} must be finite (above 0 favours long sequences, below 0 short ones)"
    )]
    LengthPenalty(f64),
    /// A diversity penalty without groups to tell apart.
    #[error("diversity_penalty={0} needs groups; set num_beam_groups above 1")]
    NoGroups(f64),
    /// Two settings of a beam search that exclude each other.
    #[error("{first} does not go with {second} in a beam search; leave one of the two out")]
    BeamConflict {
        /// A setting.
        first: &'static str,
        /// The one it excludes.
        second: &'static str,
    },
    /// Another number of rows than live beams.
    #[error("logits have {got} rows for {rows} live beams; give one row a beam, in their order")]
    BeamRows {
        /// Rows given.
        got: usize,
        /// Live beams.
        rows: usize,
    },
    /// No beam of a prompt can go on, and none has ended.
    #[error(
        "prompts[{prompt}] is at a dead end after {tokens} tokens: what is banned or allowed \
         leaves no token to any beam; relax it"
    )]
    DeadEnd {
        /// The prompt.
        prompt: usize,
        /// Tokens generated by then.
        tokens: usize,
    },
    /// A bound on probabilities that bounds nothing.
    #[error(
        "min_probability={0} must be above 0 and at most 1; 0.01 lists what comes once in a hundred"
    )]
    MinProbability(f64),
    /// A prompt that may not grow.
    #[error("limits[{0}] is 0; every prompt needs room for at least one new token")]
    NoRoom(usize),
    /// Per-sequence arguments whose number differs from the sequences'.
    #[error("{name} has {got} entries for {sequences} sequences; give one a sequence")]
    PerSequence {
        /// The argument.
        name: &'static str,
        /// Entries given.
        got: usize,
        /// Sequences of the state.
        sequences: usize,
    },
    /// Another number of rows than positions to draw at.
    #[error(
        "logits have {got} rows for {rows} positions; give one row a sequence, and one more for \
         each token proposed for it"
    )]
    LogitRows {
        /// Rows given.
        got: usize,
        /// Positions to draw at.
        rows: usize,
    },
    /// Processed rows of another length than the model's.
    #[error("logits have a vocabulary of {got} beside processed rows of {size}; give the same")]
    OtherVocabulary {
        /// Tokens in a row of the model's.
        got: usize,
        /// Tokens in a processed row.
        size: usize,
    },
    /// A sequence that is not in the state.
    #[error("row {row} is not one of the {sequences} sequences; rows count from 0")]
    NoSequence {
        /// The row given.
        row: usize,
        /// Sequences of the state.
        sequences: usize,
    },
    /// A step of a sequence that has ended.
    #[error("sequence {sequence} has ended; keep the others before the next step")]
    Ended {
        /// The sequence.
        sequence: usize,
    },
    /// A draw from a state that has changed since.
    #[error("the sequences have changed since this draw; draw again, then commit")]
    StaleDraw,
    /// More tokens to commit than follow from each other.
    #[error(
        "counts[{sequence}]={count} must be at most {most}: no token can be committed after one \
         that differs from its proposal or ends the sequence"
    )]
    NotCommittable {
        /// The sequence.
        sequence: usize,
        /// Tokens asked for.
        count: usize,
        /// The most that can be committed.
        most: usize,
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
            | Self::Token { row, .. }
            | Self::HistoryToken { row, .. }
            | Self::Prompt { row, .. }
            | Self::AllBanned { row, .. }
            | Self::NoRoom(row) => *row = index,
            _ => {}
        }
        self
    }
}

/// The core's results.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn only_percentages_get_the_hint() {
        let said = |value| Error::Probability { name: "top_p", value }.to_string();
        assert_eq!(said(90.0), "top_p=90 must be between 0 and 1; for 90% write 0.9");
        assert_eq!(said(100.0), "top_p=100 must be between 0 and 1; for 100% write 1");
        assert_eq!(said(1.0), "top_p=1 must be between 0 and 1");
        for other in [-0.5, 100.5, f64::NAN] {
            assert_eq!(said(other), format!("top_p={other} must be between 0 and 1"));
        }
    }

    #[test]
    fn a_refusal_is_moved_to_its_row_and_nothing_else_changes() {
        let moved = |error: Error| error.in_row(7);
        assert_eq!(
            moved(Error::NotANumber { row: 0, column: 3 }),
            Error::NotANumber { row: 7, column: 3 }
        );
        assert_eq!(
            moved(Error::PositiveInfinity { row: 0, column: 3 }),
            Error::PositiveInfinity { row: 7, column: 3 }
        );
        assert_eq!(moved(Error::NothingAllowed { row: 0 }), Error::NothingAllowed { row: 7 });
        assert_eq!(
            moved(Error::Token { row: 0, token: 9, size: 5 }),
            Error::Token { row: 7, token: 9, size: 5 }
        );
        let length = Error::Length { name: "tokens", got: 1, rows: 2 };
        assert_eq!(moved(length.clone()), length);
    }

    #[test]
    fn a_ticket_beyond_the_law_is_named() {
        let error = Error::Ticket { ticket: 10, total: 10 };
        assert_eq!(error.to_string(), "ticket 10 must be below the law's total weight, 10");
    }
}
