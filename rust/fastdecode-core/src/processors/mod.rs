//! Logits processors: they change single logits by what a row's sequence holds so far, before
//! temperature and truncation.
//!
//! In this order, transformers' where it has one: logit bias, repetition, frequency and presence
//! penalties, DRY, no-repeat n-gram, bad words, minimum new tokens, allowed tokens.
//!
//! Stateless: the same row and history give the same bits on every machine, whatever came before.
//! A ban sets a logit to -inf, also where it was NaN or +inf (banning a token is how to live with
//! a broken one). Every other processor leaves what is not finite as it is, for the sampler to
//! refuse or to skip, and stops at the largest and smallest float: only a ban makes a logit infinite.

mod allowed;
mod dry;
mod history;
mod penalties;
mod repeats;
mod sequences;

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use allowed::Allowed;
use dry::Dry;
pub use dry::DryParams;
use history::Counts;
pub use history::{History, SequenceHistory};
use penalties::Penalties;
use repeats::Repeats;
use sequences::Sequences;

/// What a caller asks for, not yet checked. The default changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessorParams {
    /// Added to a token's logit; for a sequence, to its last token's where the history ends with
    /// the ones before it (transformers' `sequence_bias`). -inf bans. Several biases of one token
    /// are added one after the other, the shortest sequence first, then by ids, so that the order
    /// in which they are written does not matter.
    pub logit_bias: Vec<(Vec<u32>, f32)>,
    /// Divides the positive logits of tokens in the history and multiplies the negative ones, once
    /// however often a token occurs (Keskar et al., 2019, as transformers does). 1 is off.
    pub repetition_penalty: f64,
    /// Subtracted for each time that a token is in the history: OpenAI's formula, counted over the
    /// prompt and the generated tokens. 0 is off.
    pub frequency_penalty: f64,
    /// Subtracted once from each token in the history: OpenAI's formula, over the prompt and the
    /// generated tokens. 0 is off.
    pub presence_penalty: f64,
    /// Lengthening penalty on continuing a repetition.
    pub dry: Option<DryParams>,
    /// Bans each token that would make an n-gram of this size occur again. 0 is off.
    pub no_repeat_ngram_size: i64,
    /// Sequences that are never completed. As in transformers, a word that is one of `eos` alone
    /// is left out: text may always end.
    pub bad_words: Vec<Vec<u32>>,
    /// Bans `eos` until so many tokens are generated. 0 is off.
    pub min_new_tokens: i64,
    /// The end-of-sequence tokens.
    pub eos: Vec<u32>,
    /// Bans all other tokens.
    pub allowed: Option<Vec<u32>>,
}

impl Default for ProcessorParams {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry: None,
            no_repeat_ngram_size: 0,
            bad_words: Vec::new(),
            min_new_tokens: 0,
            eos: Vec::new(),
            allowed: None,
        }
    }
}

/// Checked processors; made once, used for every row and step.
#[derive(Debug, Clone, PartialEq)]
pub struct Processors {
    params: ProcessorParams,
    bias: Sequences,
    penalties: Penalties,
    dry: Option<Dry>,
    /// 0 is off.
    ngram: usize,
    bad_words: Sequences,
    min_new_tokens: usize,
    allowed: Option<Allowed>,
    /// The largest id in each argument that has some.
    largest: Vec<(&'static str, u32)>,
}

/// Space reused between rows; one for each thread. Grows with the history, not the vocabulary.
#[derive(Debug, Default)]
pub struct ProcessorWorkspace {
    repeats: Repeats,
    tally: Tally,
    counts: Counts,
}

/// A number for each of some tokens.
type Tally = FxHashMap<u32, u32>;

impl Processors {
    /// Checks all that can be checked without knowing the vocabulary.
    ///
    /// # Errors
    /// [`Error::RepetitionPenalty`], [`Error::Penalty`], [`Error::NoRepeatNgramSize`],
    /// [`Error::MinNewTokens`], [`Error::EmptySequence`], [`Error::LogitBias`],
    /// [`Error::LogitBiasTwice`], [`Error::NoneAllowed`], and DRY's [`Error::DryMultiplier`],
    /// [`Error::DryBase`], [`Error::DryAllowedLength`], [`Error::DryRange`].
    pub fn new(params: ProcessorParams) -> Result<Self> {
        let penalties = Penalties::new(
            params.repetition_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        )?;
        let ngram = at_least_zero(params.no_repeat_ngram_size, Error::NoRepeatNgramSize)?;
        let min_new_tokens = at_least_zero(params.min_new_tokens, Error::MinNewTokens)?;
        Ok(Self {
            bias: Sequences::biases(&params.logit_bias)?,
            penalties,
            dry: params.dry.as_ref().map(Dry::new).transpose()?.flatten(),
            ngram,
            bad_words: Sequences::bans(&params.bad_words, &params.eos)?,
            min_new_tokens,
            allowed: params.allowed.as_deref().map(Allowed::new).transpose()?,
            largest: largest_ids(&params),
            params,
        })
    }

    /// The same processors with these end-of-sequence tokens, which only a tokenizer knows.
    ///
    /// # Errors
    /// As [`Processors::new`], which has accepted all the rest already.
    pub fn with_eos(&self, eos: &[u32]) -> Result<Self> {
        Self::new(ProcessorParams { eos: eos.to_vec(), ..self.params.clone() })
    }

    /// The parameters it was made from.
    #[must_use]
    pub fn params(&self) -> &ProcessorParams {
        &self.params
    }

    /// Whether no row is ever changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.needs_history()
            && self.bias.is_empty()
            && self.bad_words.is_empty()
            && self.allowed.is_none()
    }

    /// Whether the history, or its length, can make a difference.
    #[must_use]
    pub fn needs_history(&self) -> bool {
        !self.penalties.is_off()
            || self.dry.is_some()
            || self.ngram > 0
            || self.min_new_tokens > 0
            || self.bias.need_history()
            || self.bad_words.need_history()
    }

    /// Whether a token that is not banned keeps its logit.
    #[must_use]
    pub fn only_ban(&self) -> bool {
        self.penalties.is_off()
            && self.dry.is_none()
            && self.params.logit_bias.iter().all(|&(_, bias)| bias == f32::NEG_INFINITY)
    }

    /// Checks what only the vocabulary and the tokenizer decide, before any work.
    ///
    /// # Errors
    /// [`Error::UnknownToken`], [`Error::NoEos`].
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        for &(name, token) in &self.largest {
            if token as usize >= vocabulary {
                return Err(Error::UnknownToken { name, token, size: vocabulary });
            }
        }
        if self.min_new_tokens > 0 && self.params.eos.is_empty() {
            return Err(Error::NoEos { min_new_tokens: self.params.min_new_tokens });
        }
        Ok(())
    }

    /// Processors a row of logits in place. Takes time linear in the history, and in the row where
    /// `allowed` is on. The history is not looked at unless [`Processors::needs_history`].
    ///
    /// # Errors
    /// [`Error::HistoryToken`], [`Error::Prompt`], and as [`Processors::check`]; the row is then
    /// untouched.
    pub fn apply(
        &self,
        row: &mut [f32],
        history: History<'_>,
        workspace: &mut ProcessorWorkspace,
    ) -> Result<()> {
        self.check(row.len())?;
        let tokens = history.tokens();
        let generated = if self.needs_history() { history.generated(row.len())? } else { 0 };
        let ProcessorWorkspace { repeats, tally, counts } = workspace;
        self.bias.apply(row, tokens);
        if !self.penalties.is_off() {
            self.penalties.apply(row, history, counts);
        }
        if self.dry.is_some() || self.ngram > 0 {
            repeats.measure(tokens);
        }
        if let Some(dry) = &self.dry {
            dry.apply(row, tokens, repeats, tally);
        }
        if self.ngram > 0 {
            repeats.ban_ngrams(self.ngram, row, tokens);
        }
        self.bad_words.apply(row, tokens);
        if generated < self.min_new_tokens {
            for &token in &self.params.eos {
                ban(row, token);
            }
        }
        if let Some(allowed) = &self.allowed {
            allowed.apply(row);
        }
        Ok(())
    }

    /// The refusal of a row that had tokens left before these processors and has none after: it names
    /// those that ban. For the caller that has the row as it was and gets
    /// [`Error::NothingAllowed`] for the processed one.
    #[must_use]
    pub fn emptied(&self, row: usize) -> Error {
        let ProcessorParams { no_repeat_ngram_size, min_new_tokens, .. } = self.params;
        let banning = [
            self.bias.ban().then(|| "logit_bias".to_owned()),
            (self.ngram > 0).then(|| format!("no_repeat_ngram_size={no_repeat_ngram_size}")),
            self.bad_words.ban().then(|| "bad_words".to_owned()),
            (self.min_new_tokens > 0).then(|| format!("min_new_tokens={min_new_tokens}")),
            self.allowed.is_some().then(|| "allowed".to_owned()),
        ];
        let processors: Vec<String> = banning.into_iter().flatten().collect();
        if processors.is_empty() {
            return Error::NothingAllowed { row };
        }
        Error::AllBanned { row, edits: processors.join(", ") }
    }
}

/// The largest token id of each argument, under the argument's name.
fn largest_ids(params: &ProcessorParams) -> Vec<(&'static str, u32)> {
    let breakers = params.dry.iter().flat_map(|dry| &dry.sequence_breakers);
    let largest = [
        ("logit_bias", params.logit_bias.iter().flat_map(|(ids, _)| ids).max()),
        ("dry_sequence_breakers", breakers.flatten().max()),
        ("bad_words", params.bad_words.iter().flatten().max()),
        ("eos_token_id", params.eos.iter().max()),
        ("allowed", params.allowed.iter().flatten().max()),
    ];
    largest.into_iter().filter_map(|(name, id)| id.map(|&id| (name, id))).collect()
}

/// A count that a caller may have got wrong.
fn at_least_zero(value: i64, refusal: fn(i64) -> Error) -> Result<usize> {
    if value < 0 {
        return Err(refusal(value));
    }
    // Where it does not fit, no sequence is that long either.
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

fn ban(row: &mut [f32], token: u32) {
    row[token as usize] = f32::NEG_INFINITY;
}

/// Changes a finite logit, to a finite one.
fn change(row: &mut [f32], token: u32, change: impl FnOnce(f32) -> f32) {
    let logit = &mut row[token as usize];
    if logit.is_finite() {
        *logit = change(*logit).clamp(f32::MIN, f32::MAX);
    }
}

#[cfg(test)]
mod tests;
