//! The parameters of a beam search: checked once, used at every step.

use crate::error::{Error, Result};
use crate::math::exp::exp;
use crate::math::ln::ln;
use crate::pipeline::Pipeline;
use crate::pipeline::sampler::Sampler;
use crate::processors::{ProcessorParams, Processors};
use crate::truncation::Params;

/// The most beams of one prompt.
pub const MOST_BEAMS: usize = 4096;

/// When a prompt's search ends once it has as many finished hypotheses as beams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// When the best live beam, scored at its present length, is no better than the worst finished
    /// one (transformers' `False`).
    #[default]
    Heuristic,
    /// At once (transformers' `True`).
    Full,
    /// When the best live beam cannot become better within the limit on its length. With a length
    /// penalty of at least 0 nothing that could win is lost (transformers' `"never"`).
    Never,
}

/// How the candidates of a step are chosen among all continuations of all live beams.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Choice {
    /// The best scores.
    #[default]
    Best,
    /// Drawn without replacement, in proportion to the beam's probability and the sampler's law.
    Sampled(Sampler),
    /// Stochastic beam search: whole sequences drawn without replacement from the sampler's law
    /// (Kool et al., 2019).
    Stochastic(Sampler),
}

impl Choice {
    /// The choice of a beam search with these sampling parameters, if any.
    ///
    /// # Errors
    /// [`Error::SampleProcessors`]: in a beam search the processors are those of [`BeamParams`].
    pub fn new(sample: Option<&Pipeline>, stochastic: bool) -> Result<Self> {
        if sample.is_some_and(|pipeline| !pipeline.processors().is_empty()) {
            return Err(Error::SampleProcessors);
        }
        let sampler = sample.map(|pipeline| *pipeline.sampler());
        Ok(match (sampler, stochastic) {
            (None, false) => Self::Best,
            (Some(sampler), false) => Self::Sampled(sampler),
            (None, true) => Self::Stochastic(Sampler::new(Params::default())?),
            (Some(sampler), true) => Self::Stochastic(sampler),
        })
    }
}

/// The parameters of a beam search, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct BeamParams {
    /// The number of live beams of a prompt, and of finished hypotheses kept.
    pub num_beams: i64,
    /// A finished score is its log-probability divided by its length to this power.
    pub length_penalty: f64,
    /// When to stop.
    pub early_stopping: EarlyStopping,
    /// Sequences wanted of each prompt.
    pub num_return_sequences: i64,
    /// Groups of beams that are kept apart (Vijayakumar et al., 2018).
    pub num_beam_groups: i64,
    /// Nats subtracted from a token for each beam of an earlier group that chose it at this step.
    pub diversity_penalty: f64,
    /// How candidates are chosen.
    pub choice: Choice,
    /// Biases, penalties and bans, which see the prompt and a beam's own tokens. As in
    /// transformers they act on log-probabilities, which are not renormalised.
    pub processors: ProcessorParams,
}

impl Default for BeamParams {
    fn default() -> Self {
        Self {
            num_beams: 4,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
            num_return_sequences: 1,
            num_beam_groups: 1,
            diversity_penalty: 0.0,
            choice: Choice::Best,
            processors: ProcessorParams::default(),
        }
    }
}

/// Checked parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    params: BeamParams,
    pub(super) num_beams: usize,
    pub(super) returned: usize,
    pub(super) groups: usize,
    pub(super) processors: Processors,
}

impl Beam {
    /// Checks the parameters.
    ///
    /// # Errors
    /// The first parameter that is out of range, or two that exclude each other.
    pub fn new(params: BeamParams) -> Result<Self> {
        let within =
            |value: i64, limit| usize::try_from(value).ok().filter(|n| (1..=limit).contains(n));
        let num_beams = within(params.num_beams, MOST_BEAMS)
            .ok_or(Error::NumBeams { got: params.num_beams, limit: MOST_BEAMS })?;
        let got = params.num_return_sequences;
        let returned =
            within(got, num_beams).ok_or(Error::NumReturnSequences { got, num_beams })?;
        let got = params.num_beam_groups;
        let groups = within(got, num_beams)
            .filter(|groups| num_beams.is_multiple_of(*groups))
            .ok_or(Error::BeamGroups { got, num_beams })?;
        if !params.length_penalty.is_finite() {
            return Err(Error::LengthPenalty(params.length_penalty));
        }
        if !(params.diversity_penalty.is_finite() && params.diversity_penalty >= 0.0) {
            return Err(Error::Negative {
                name: "diversity_penalty",
                value: params.diversity_penalty,
            });
        }
        if params.diversity_penalty > 0.0 && groups == 1 {
            return Err(Error::NoGroups(params.diversity_penalty));
        }
        refuse_conflicts(&params)?;
        let processors = Processors::new(params.processors.clone())?;
        Ok(Self { params, num_beams, returned, groups, processors })
    }

    /// The same parameters with these end-of-sequence tokens, which only a tokenizer knows.
    ///
    /// # Errors
    /// As [`Processors::with_eos`].
    pub fn with_eos(mut self, eos: &[u32]) -> Result<Self> {
        self.processors = self.processors.with_eos(eos)?;
        Ok(self)
    }

    /// Its logits processors.
    #[must_use]
    pub fn processors(&self) -> &Processors {
        &self.processors
    }

    /// The parameters it was made from.
    #[must_use]
    pub fn params(&self) -> &BeamParams {
        &self.params
    }

    /// Sequences that compete: the beams, and in a stochastic beam search one more, whose noise is
    /// the threshold for the others.
    pub(super) fn width(&self) -> usize {
        self.num_beams + usize::from(self.is_stochastic())
    }

    pub(super) fn is_stochastic(&self) -> bool {
        matches!(self.params.choice, Choice::Stochastic(_))
    }

    /// Beams of one group.
    pub(super) fn group_size(&self) -> usize {
        self.num_beams / self.groups
    }

    /// Candidates that leave enough live beams even if every end of sequence is among them.
    pub(super) fn candidates(&self, ends: usize) -> usize {
        self.group_size() * (1 + ends).max(2)
    }

    /// A log-probability over `length` tokens as a score to compare.
    pub(super) fn score(&self, logprob: f64, length: usize) -> f64 {
        logprob / power(length, self.params.length_penalty)
    }

    /// Whether a full set of finished hypotheses is enough.
    pub(super) fn stops_when_full(&self) -> bool {
        self.params.early_stopping == EarlyStopping::Full
    }

    /// The best score that a live beam can still reach, by the rule of `early_stopping`.
    pub(super) fn hope(&self, logprob: f64, length: usize, limit: usize) -> f64 {
        let never = self.params.early_stopping == EarlyStopping::Never;
        let far = never && self.params.length_penalty > 0.0;
        self.score(logprob, if far { limit } else { length })
    }
}

fn refuse_conflicts(params: &BeamParams) -> Result<()> {
    let (sampler, second, stochastic) = match &params.choice {
        Choice::Best => return Ok(()),
        Choice::Sampled(sampler) => (sampler, "sample", false),
        Choice::Stochastic(sampler) => (sampler, "stochastic", true),
    };
    let conflicts = [
        ("num_beam_groups", params.num_beam_groups > 1),
        ("length_penalty", stochastic && params.length_penalty != 1.0),
        ("early_stopping", stochastic && params.early_stopping != EarlyStopping::default()),
    ];
    let conflict = conflicts.into_iter().find(|&(_, both)| both).map(|(first, _)| first);
    // A beam has neither a key of its own nor earlier draws.
    match conflict.or_else(|| sampler.params().beyond_the_row()) {
        Some(first) => Err(Error::BeamConflict { first, second }),
        None => Ok(()),
    }
}

/// `length ^ exponent`, exact where the exponent is 0 or 1.
fn power(length: usize, exponent: f64) -> f64 {
    if exponent == 0.0 {
        1.0
    } else if exponent == 1.0 {
        length as f64
    } else {
        exp(exponent * ln(length as u64))
    }
}
