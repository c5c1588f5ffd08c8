//! The core's errors: everything that a caller's values can be refused for.

use std::fmt;

use fastdecode_simd::SettingError;
use fastdecode_simd::memory::Refused;
use thiserror::Error;

/// Why the core refuses a call, before any work is done.
///
/// A message names the thing, its value and the fix, in the core's words. A caller that knows the
/// thing by another name, as Python knows the arguments of its calls, has [`Error::subject`] and
/// [`Error::naming`].
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
    /// A logit is +inf, for which no softmax exists. -inf is allowed: it bans a token.
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
    /// Every logit of a row is -inf.
    #[error("logits row {row} has no finite entry: every token is banned; leave at least one")]
    NothingAllowed {
        /// The row of the batch.
        row: usize,
    },
    /// A row without tokens.
    #[error("logits have a vocabulary of size 0; the last axis must hold at least one token")]
    EmptyVocabulary,
    /// A row longer than the integer law is exact for.
    #[error(
        "logits have a vocabulary of {size}, more than the {limit} that the sampler is exact for"
    )]
    VocabularyTooLarge {
        /// The length of a row.
        size: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// A temperature that is negative, NaN or infinite.
    #[error("temperature={0} must be finite and >= 0 (0 is greedy, 1 leaves the model as it is)")]
    Temperature(f64),
    /// A `top_k` below 1.
    #[error("top_k={0} must be at least 1; leave it out (None) to keep every token")]
    TopK(i64),
    /// A number of likeliest tokens that is below 1 or above the vocabulary's size.
    #[error("k={k} must be between 1 and the vocabulary size, {size}")]
    K {
        /// The number of tokens wanted.
        k: i64,
        /// The vocabulary's size.
        size: usize,
    },
    /// A probability outside [0, 1], or NaN.
    #[error("{name}={value} must be between 0 and 1{hint}", hint = percent_hint(*.value))]
    Probability {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A parameter that is negative, NaN or infinite, and must not be.
    #[error("{name}={value} must be finite and >= 0")]
    Negative {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A dynamic temperature whose lower end is above its upper end.
    #[error("dynamic_temperature goes from {low} to {high}; give the lower one first")]
    TemperatureRange {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// A fixed temperature beside a dynamic one.
    #[error(
        "temperature={0} and dynamic_temperature both set the temperature; give one of the two"
    )]
    TwoTemperatures(f64),
    /// More distinct tokens than have a probability above zero.
    #[error(
        "num_samples={wanted} without replacement, but only {tokens} tokens can be drawn; \
         ask for fewer, or loosen the truncation"
    )]
    TooFewTokens {
        /// The number of tokens wanted.
        wanted: usize,
        /// The number of tokens with a probability above zero.
        tokens: u64,
    },
    /// An argument with one entry per row, whose length is not the number of rows.
    #[error("{name} has {got} entries for {rows} rows of logits; give one a row")]
    Length {
        /// The argument.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The number of rows.
        rows: usize,
    },
    /// A token id outside the vocabulary, where its probability is wanted.
    #[error(
        "{} is outside the vocabulary, 0..{}",
        Subject::Token { row: *.row, token: *.token },
        last(*.size)
    )]
    Token {
        /// The row of the batch.
        row: usize,
        /// The token id.
        token: i64,
        /// The vocabulary's size.
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
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A `no_repeat_ngram_size` below 0.
    #[error("no_repeat_ngram_size={0} must be at least 1, or 0 to turn it off")]
    NoRepeatNgramSize(i64),
    /// A `dry_multiplier` that is negative, NaN or infinite.
    #[error("dry_multiplier={0} must be finite and >= 0 (0 is off, 0.8 is usual)")]
    DryMultiplier(f64),
    /// A `dry_base` that is below 1, NaN or infinite.
    #[error("dry_base={0} must be finite and >= 1 (1.75 is usual)")]
    DryBase(f64),
    /// A `dry_allowed_length` below 1.
    #[error("dry_allowed_length={0} must be at least 1 token (2 is usual)")]
    DryAllowedLength(i64),
    /// A `dry_range` below 1.
    #[error("dry_range={0} must be at least 1 token; leave it out (None) to look at all")]
    DryRange(i64),
    /// A token sequence without tokens.
    #[error("{name}[{index}] is empty; give at least one token id, or leave it out")]
    EmptySequence {
        /// The parameter.
        name: &'static str,
        /// The index of the empty sequence.
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
        /// Its bias.
        bias: f32,
    },
    /// A sequence with more than one bias.
    #[error("logit_bias has {tokens:?} more than once; give each token or sequence one bias")]
    LogitBiasTwice {
        /// The sequence.
        tokens: Vec<u32>,
    },
    /// A `min_new_tokens` below 0.
    #[error("min_new_tokens={0} must be at least 0 (0 is off)")]
    MinNewTokens(i64),
    /// A minimum length where no token is known to end a sequence.
    #[error(
        "min_new_tokens={min_new_tokens} works by banning the end-of-sequence tokens, \
         and none are known; give eos_token_id, or leave min_new_tokens out"
    )]
    NoEos {
        /// The minimum length.
        min_new_tokens: i64,
    },
    /// An `allowed` without tokens.
    #[error("allowed=[] bans every token; give at least one id, or None to allow all")]
    NoneAllowed,
    /// A token id outside the vocabulary, in a parameter.
    #[error(
        "{name} has token id {token}, which is outside the vocabulary, 0..{}",
        last(*.size)
    )]
    UnknownToken {
        /// The parameter.
        name: &'static str,
        /// The token id.
        token: u32,
        /// The vocabulary's size.
        size: usize,
    },
    /// A token id outside the vocabulary, in a row's history.
    #[error(
        "{} has token id {token} at position {position}, \
         which is outside the vocabulary, 0..{}; leave padding out",
        Subject::History(*.row),
        last(*.size)
    )]
    HistoryToken {
        /// The row of the batch.
        row: usize,
        /// The position in the history.
        position: usize,
        /// The token id.
        token: u32,
        /// The vocabulary's size.
        size: usize,
    },
    /// A prompt longer than the history that it begins.
    #[error(
        "{} has {size} tokens, fewer than the {prompt} of its prompt; \
         a history is the prompt and what was generated, so prompt_lengths is too large",
        Subject::History(*.row)
    )]
    Prompt {
        /// The row of the batch.
        row: usize,
        /// The given number of tokens in the prompt.
        prompt: usize,
        /// The number of tokens in the history.
        size: usize,
    },
    /// A token id outside the vocabulary, in a prompt.
    #[error(
        "{} has token id {token} at position {position}, \
         which is outside the vocabulary, 0..{}; leave padding out",
        Subject::Prompt(*.prompt),
        last(*.size)
    )]
    PromptToken {
        /// The prompt's index.
        prompt: usize,
        /// The position in the prompt.
        position: usize,
        /// The token id.
        token: u32,
        /// The vocabulary's size.
        size: usize,
    },
    /// A prompt longer than the sequence that it begins, by the prompt's index.
    #[error(
        "{} has {size} tokens, fewer than the {length} of its prompt; \
         a history is the prompt and what was generated, so prompt_lengths is too large",
        Subject::Prompt(*.prompt)
    )]
    PromptLength {
        /// The prompt's index.
        prompt: usize,
        /// The given number of tokens in the prompt.
        length: usize,
        /// The number of tokens in the sequence.
        size: usize,
    },
    /// Processors that look at the text so far, without a history.
    #[error(
        "these parameters depend on the text so far; give {}, the token ids of each row's prompt \
         and text",
        Subject::Histories
    )]
    NeedsHistory,
    /// XTC, whose law depends on a random number, without a key.
    #[error("xtc tosses a coin for each token; give {} to say which", Subject::Key)]
    NeedsKey,
    /// A row in which the caller's own settings ban every token that the model left.
    #[error("logits row {row} has no token left after {processors}; loosen what bans too much")]
    AllBanned {
        /// The row of the batch.
        row: usize,
        /// The settings that ban, by name.
        processors: String,
    },
    /// A uniform integer, supplied by the caller, that is not below the law's total weight.
    #[error("ticket {ticket} must be below the law's total weight, {total}")]
    Ticket {
        /// The integer.
        ticket: u64,
        /// W, the number of tickets.
        total: u64,
    },
    /// A number of beams that is below 1 or above the limit.
    #[error("num_beams={got} must be between 1 and {limit}; 1 is greedy")]
    NumBeams {
        /// The number of beams.
        got: i64,
        /// The greatest number accepted.
        limit: usize,
    },
    /// A number of returned sequences that is below 1 or above the number of beams.
    #[error(
        "num_return_sequences={got} must be between 1 and num_beams={num_beams}; \
         raise num_beams to get more"
    )]
    NumReturnSequences {
        /// The number of sequences.
        got: i64,
        /// The number of beams.
        num_beams: usize,
    },
    /// A number of groups that does not divide the number of beams.
    #[error(
        "num_beam_groups={got} does not divide num_beams={num_beams} into groups of equal size; \
         use one of its divisors"
    )]
    BeamGroups {
        /// The number of groups.
        got: i64,
        /// The number of beams.
        num_beams: usize,
    },
    /// A length penalty that is NaN or infinite.
    #[error(
        "length_penalty={0} must be finite (above 0 favours long sequences, below 0 short ones)"
    )]
    LengthPenalty(f64),
    /// A diversity penalty where all beams are in one group.
    #[error("diversity_penalty={0} needs groups; set num_beam_groups above 1")]
    NoGroups(f64),
    /// Two settings of a beam search that exclude each other.
    #[error("{first} does not go with {second} in a beam search; leave one of the two out")]
    BeamConflict {
        /// A setting.
        first: &'static str,
        /// The setting that it excludes.
        second: &'static str,
    },
    /// Logits processors in the sampling parameters of a beam search, which has processors itself.
    #[error("sample has penalties or bans of its own; in a beam search give them to Beam itself")]
    SampleProcessors,
    /// Logits whose number of rows is not the number of live beams.
    #[error("logits have {got} rows for {rows} live beams; give one row a beam, in their order")]
    BeamRows {
        /// The number of rows.
        got: usize,
        /// The number of live beams.
        rows: usize,
    },
    /// A prompt whose beams have no continuation left, and none of which has ended.
    #[error(
        "{} is at a dead end after {tokens} tokens: what is banned or allowed \
         leaves no token to any beam; relax it",
        Subject::Prompt(*.prompt)
    )]
    DeadEnd {
        /// The prompt's index.
        prompt: usize,
        /// The number of tokens generated.
        tokens: usize,
    },
    /// A lower bound on probabilities outside (0, 1].
    #[error(
        "min_probability={0} must be above 0 and at most 1; 0.01 lists what comes once in a hundred"
    )]
    MinProbability(f64),
    /// A limit of 0 new tokens for the prompt of this index.
    #[error("{} is 0; every prompt needs room for at least one new token", Subject::Limit(*.0))]
    NoRoom(usize),
    /// An argument with one entry per sequence, whose length is not the number of sequences.
    #[error("{name} has {got} entries for {sequences} sequences; give one a sequence")]
    PerSequence {
        /// The argument.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The number of sequences.
        sequences: usize,
    },
    /// Logits whose number of rows is not the number of positions to draw at.
    #[error(
        "logits have {got} rows for {rows} positions; give one row a sequence, and one more for \
         each token proposed for it"
    )]
    LogitRows {
        /// The number of rows.
        got: usize,
        /// The number of positions.
        rows: usize,
    },
    /// Raw rows and processed rows of different lengths.
    #[error("logits have a vocabulary of {got} beside processed rows of {size}; give the same")]
    OtherVocabulary {
        /// The length of a raw row.
        got: usize,
        /// The length of a processed row.
        size: usize,
    },
    /// An index of a sequence that does not exist.
    #[error("row {row} is not one of the {sequences} sequences; rows count from 0")]
    NoSequence {
        /// The index.
        row: usize,
        /// The number of sequences.
        sequences: usize,
    },
    /// A step of a sequence that has ended.
    #[error("sequence {sequence} has ended; keep the others before the next step")]
    Ended {
        /// The sequence's index.
        sequence: usize,
    },
    /// A draw from sequences that have changed since.
    #[error("the sequences have changed since this draw; draw again, then commit")]
    StaleDraw,
    /// A number of tokens to commit beyond those that follow from each other.
    #[error(
        "counts[{sequence}]={count} must be at most {most}: no token can be committed after one \
         that differs from its proposal or ends the sequence"
    )]
    NotCommittable {
        /// The sequence's index.
        sequence: usize,
        /// The number of tokens to commit.
        count: usize,
        /// The greatest number accepted.
        most: usize,
    },
    /// A parameter that is 0 and must be at least 1.
    #[error("{name}=0 must be at least 1")]
    Zero {
        /// The parameter.
        name: &'static str,
    },
    /// Memory that cannot be allocated.
    #[error(transparent)]
    Memory(#[from] Refused),
    /// An environment variable with a value that cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// What kind of error an [`Error`] is, for callers whose language has a type for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A value out of its range, or values that exclude each other.
    Value,
    /// An index of something that does not exist.
    Index,
    /// Memory that the system refuses.
    Memory,
}

/// The thing that an [`Error`] is about; it is displayed in the core's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The token ids of a row's prompt and text so far.
    History(usize),
    /// The histories of all rows, where none are given.
    Histories,
    /// The seed, stream, sample and position of a draw, where none are given.
    Key,
    /// A prompt, by its index.
    Prompt(usize),
    /// The most new tokens of a prompt, by its index.
    Limit(usize),
    /// A token given for a row.
    Token {
        /// The row of the batch.
        row: usize,
        /// The token id.
        token: i64,
    },
    /// A parameter, by its name in the core.
    Parameter(&'static str),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History(row) => write!(f, "the history of row {row}"),
            Self::Histories => f.write_str("each row's history"),
            Self::Key => f.write_str("a key"),
            Self::Prompt(index) => write!(f, "prompt {index}"),
            Self::Limit(index) => write!(f, "the limit of prompt {index}"),
            Self::Token { row, token } => write!(f, "token {token} of row {row}"),
            Self::Parameter(name) => f.write_str(name),
        }
    }
}

/// The last of `size` token ids.
fn last(size: usize) -> usize {
    size.saturating_sub(1)
}

/// A value such as 90 is usually meant as a percentage.
fn percent_hint(value: f64) -> String {
    if value > 1.0 && value <= 100.0 {
        format!("; for {value}% write {}", value / 100.0)
    } else {
        String::new()
    }
}

impl Error {
    /// The same error for another row: code that sees one row calls it 0.
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

    /// The same error about the prompt of this index, where it is about the history that begins
    /// with it.
    #[must_use]
    pub fn in_prompt(self, prompt: usize) -> Self {
        match self {
            Self::HistoryToken { position, token, size, .. } => {
                Self::PromptToken { prompt, position, token, size }
            }
            Self::Prompt { prompt: length, size, .. } => {
                Self::PromptLength { prompt, length, size }
            }
            other => other,
        }
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSequence { .. } => ErrorKind::Index,
            Self::Memory(_) => ErrorKind::Memory,
            _ => ErrorKind::Value,
        }
    }

    /// What it is about, where callers may know that by another name.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        match *self {
            Self::HistoryToken { row, .. } | Self::Prompt { row, .. } => {
                Some(Subject::History(row))
            }
            Self::NeedsHistory => Some(Subject::Histories),
            Self::NeedsKey => Some(Subject::Key),
            Self::PromptToken { prompt, .. }
            | Self::PromptLength { prompt, .. }
            | Self::DeadEnd { prompt, .. } => Some(Subject::Prompt(prompt)),
            Self::NoRoom(index) => Some(Subject::Limit(index)),
            Self::Token { row, token, .. } => Some(Subject::Token { row, token }),
            Self::DryMultiplier(_) => Some(Subject::Parameter("dry_multiplier")),
            Self::DryBase(_) => Some(Subject::Parameter("dry_base")),
            Self::DryAllowedLength(_) => Some(Subject::Parameter("dry_allowed_length")),
            Self::DryRange(_) => Some(Subject::Parameter("dry_range")),
            Self::Probability { name, .. }
            | Self::Negative { name, .. }
            | Self::Length { name, .. }
            | Self::PerSequence { name, .. }
            | Self::Penalty { name, .. }
            | Self::EmptySequence { name, .. }
            | Self::UnknownToken { name, .. }
            | Self::Zero { name } => Some(Subject::Parameter(name)),
            _ => None,
        }
    }

    /// The message with its subject under another name.
    #[must_use]
    pub fn naming(&self, name: impl FnOnce(Subject) -> String) -> String {
        let message = self.to_string();
        match self.subject() {
            Some(subject) => message.replacen(&subject.to_string(), &name(subject), 1),
            None => message,
        }
    }
}

/// The core's results.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind, Subject};

    #[test]
    fn only_percentages_get_the_hint() {
        let message = |value| Error::Probability { name: "top_p", value }.to_string();
        assert_eq!(message(90.0), "top_p=90 must be between 0 and 1; for 90% write 0.9");
        assert_eq!(message(100.0), "top_p=100 must be between 0 and 1; for 100% write 1");
        assert_eq!(message(1.0), "top_p=1 must be between 0 and 1");
        for other in [-0.5, 100.5, f64::NAN] {
            assert_eq!(message(other), format!("top_p={other} must be between 0 and 1"));
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
    fn every_message_contains_its_subject_once() {
        let about = [
            Error::HistoryToken { row: 3, position: 1, token: 9, size: 5 },
            Error::Prompt { row: 3, prompt: 2, size: 1 },
            Error::PromptToken { prompt: 3, position: 1, token: 9, size: 5 },
            Error::PromptLength { prompt: 3, length: 2, size: 1 },
            Error::NeedsHistory,
            Error::NeedsKey,
            Error::DeadEnd { prompt: 3, tokens: 2 },
            Error::NoRoom(3),
            Error::Token { row: 3, token: 9, size: 5 },
            Error::Probability { name: "top_p", value: 2.0 },
            Error::Negative { name: "top_n_sigma", value: -1.0 },
            Error::Length { name: "allowed", got: 1, rows: 2 },
            Error::PerSequence { name: "counts", got: 1, sequences: 2 },
            Error::Penalty { name: "presence_penalty", value: f64::NAN },
            Error::EmptySequence { name: "bad_words", index: 0 },
            Error::UnknownToken { name: "ends", token: 9, size: 5 },
            Error::Zero { name: "limit" },
            Error::DryMultiplier(-1.0),
            Error::DryBase(0.5),
            Error::DryAllowedLength(0),
            Error::DryRange(0),
        ];
        for error in about {
            let subject = error.subject().unwrap().to_string();
            assert_eq!(error.to_string().matches(&subject).count(), 1, "{error}");
            let named = error.naming(|_| "***".to_owned());
            assert_eq!(named.replace("***", &subject), error.to_string());
        }
    }

    #[test]
    fn subjects_can_be_named_anew() {
        let error = Error::HistoryToken { row: 3, position: 1, token: 9, size: 5 };
        assert_eq!(error.subject(), Some(Subject::History(3)));
        assert_eq!(
            error.clone().naming(|_| "histories[3]".to_owned()),
            "histories[3] has token id 9 at position 1, which is outside the vocabulary, 0..4; \
             leave padding out"
        );
        let error = error.in_prompt(1);
        assert_eq!(error, Error::PromptToken { prompt: 1, position: 1, token: 9, size: 5 });
        let error = Error::Prompt { row: 0, prompt: 2, size: 1 };
        assert_eq!(error.in_prompt(3), Error::PromptLength { prompt: 3, length: 2, size: 1 });
        assert_eq!(Error::NoneAllowed.in_prompt(1), Error::NoneAllowed);
        assert_eq!(Error::NoneAllowed.naming(|_| unreachable!()), Error::NoneAllowed.to_string());
    }

    #[test]
    fn kinds() {
        let error = Error::NoSequence { row: 2, sequences: 2 };
        assert_eq!(error.kind(), ErrorKind::Index);
        let error = Error::from(fastdecode_simd::memory::admit(usize::MAX).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Memory);
        assert_eq!(Error::NoneAllowed.kind(), ErrorKind::Value);
    }

    #[test]
    fn a_ticket_beyond_the_law_is_named() {
        let error = Error::Ticket { ticket: 10, total: 10 };
        assert_eq!(error.to_string(), "ticket 10 must be below the law's total weight, 10");
    }
}
