//! One generation in progress: everything that its next token depends on besides the logits.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::pipeline::Pipeline;
use crate::processors::SequenceHistory;
use crate::rng::key::Key;

/// What a sequence begins with.
#[derive(Debug, Clone)]
pub struct SequenceParams {
    /// How its tokens are chosen.
    pub pipeline: Arc<Pipeline>,
    /// The run.
    pub seed: u64,
    /// The prompt within the run.
    pub stream: u32,
    /// Which sample of the prompt it is.
    pub sample: u32,
    /// The prompt's tokens, followed by generated ones where a sequence is resumed.
    pub history: Vec<u32>,
    /// How many of them are the prompt's.
    pub prompt: usize,
    /// Mirostat's bound on surprisals where a sequence is resumed, in bits; None at the start.
    pub mu: Option<f64>,
    /// Where it ends at the latest.
    pub limit: Limit,
    /// Tokens that end it.
    pub ends: Arc<[u32]>,
}

/// The most tokens that a sequence may have after its prompt, and why no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// As many as the caller wants.
    Length(usize),
    /// As many as the model's context has room for.
    Context(usize),
}

impl Limit {
    /// The most new tokens.
    #[must_use]
    pub fn tokens(self) -> usize {
        match self {
            Self::Length(tokens) | Self::Context(tokens) => tokens,
        }
    }

    /// Why a sequence that reaches it ends.
    #[must_use]
    pub fn reason(self) -> FinishReason {
        match self {
            Self::Length(_) => FinishReason::Length,
            Self::Context(_) => FinishReason::Context,
        }
    }
}

/// Why a sequence has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// One of its end tokens was drawn.
    Eos,
    /// It has as many tokens as the caller wants.
    Length,
    /// The model's context is full.
    Context,
}

/// One generation in progress.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub(super) pipeline: Arc<Pipeline>,
    seed: u64,
    stream: u32,
    sample: u32,
    pub(super) history: SequenceHistory,
    pub(super) mu: Option<f64>,
    limit: Limit,
    ends: Arc<[u32]>,
    reason: Option<FinishReason>,
}

impl Sequence {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::Prompt`], and [`Error::NoRoom`] for a sequence that has reached its limit.
    pub fn new(params: SequenceParams) -> Result<Self> {
        let counted = params.pipeline.processors().needs_history();
        let history = SequenceHistory::new(params.history, params.prompt, counted)?;
        if history.generated().len() >= params.limit.tokens() {
            return Err(Error::NoRoom(0));
        }
        Ok(Self {
            pipeline: params.pipeline,
            seed: params.seed,
            stream: params.stream,
            sample: params.sample,
            history,
            mu: params.mu.filter(|mu| !mu.is_nan()),
            limit: params.limit,
            ends: params.ends,
            reason: None,
        })
    }

    /// The same sequence so far, continued as another sample of its prompt.
    #[must_use]
    pub fn as_sample(&self, sample: u32) -> Self {
        Self { sample, ..self.clone() }
    }

    /// How its tokens are chosen.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Its tokens so far.
    #[must_use]
    pub fn history(&self) -> &SequenceHistory {
        &self.history
    }

    /// The key of its next token.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key_after(0)
    }

    /// Mirostat's bound on the next surprisal, in bits; None at the start and without mirostat.
    #[must_use]
    pub fn mu(&self) -> Option<f64> {
        self.mu
    }

    /// Why it has ended; None while it has not.
    #[must_use]
    pub fn reason(&self) -> Option<FinishReason> {
        self.reason
    }

    /// The key of the token that follows `ahead` further ones.
    pub(super) fn key_after(&self, ahead: usize) -> Key {
        let position = (self.history.tokens().len() + ahead) as u32;
        Key { seed: self.seed, stream: self.stream, sample: self.sample, position }
    }

    /// How many of `tokens`, drawn one after the other on the assumption of `proposed`, can be
    /// committed: up to the first that differs from its proposal or ends the sequence.
    pub(super) fn committable(&self, tokens: impl Iterator<Item = u32>, proposed: &[u32]) -> usize {
        let mut count = 0;
        for token in tokens {
            count += 1;
            if self.reason_after(count, token).is_some() || proposed.get(count - 1) != Some(&token)
            {
                break;
            }
        }
        count
    }

    /// Why it ends with `token` as the `count`-th token from now; None where it does not.
    fn reason_after(&self, count: usize, token: u32) -> Option<FinishReason> {
        if self.ends.contains(&token) {
            return Some(FinishReason::Eos);
        }
        let full = self.history.generated().len() + count >= self.limit.tokens();
        full.then(|| self.limit.reason())
    }

    /// Appends a token that was drawn for it.
    pub(super) fn push(&mut self, token: u32, mu: Option<f64>) {
        self.reason = self.reason_after(1, token);
        self.history.push(token);
        self.mu = mu;
    }
}
