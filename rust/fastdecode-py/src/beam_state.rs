//! `BeamState`: a beam search in progress.

use fastdecode_core::beam::{BeamState as Core, Ending, Expansion, Fate, Outcome, Prompt, Step};
use fastdecode_simd::{in_default_float_mode, memory};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use crate::arguments::{self, Each, Given};
use crate::beam::Beam;
use crate::borrow::Borrowed;
use crate::errors::{detached, exception, object};

/// A beam search in progress, for all prompts of a batch. Engine-neutral: it takes logits and gives
/// tokens, and for each token the row that it continues.
///
/// Its rows are the live beams, prompt by prompt. At the first step there is one row per prompt: the
/// logits after the prompt. At each later step they are the rows of `BeamStep.tokens`.
///
/// Parameters
/// ----------
/// beam : Beam
/// prompts : sequence of sequences of int
///     The prompts' tokens.
/// limits : sequence of int
///     The most new tokens of each prompt, at least 1.
/// eos_token_ids : sequence of int
///     Tokens that end a sequence.
/// seed : int, default 0
///     0..2**64-1, for beam sampling and stochastic beam search.
/// streams : int or sequence of int, optional
///     0..2**32-1, one per prompt; by default the prompt's index.
/// indices : sequence of int, optional
///     The numbers that messages give the prompts; by default 0, 1, ...
/// trace : bool, default False
///     Keep every candidate for `expansions`.
#[pyclass(module = "fastdecode._core")]
pub struct BeamState {
    state: Core,
}

/// The result of a step: each new row's token, and the row of the given logits that it continues.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct BeamStep {
    pub step: Step,
}

#[pymethods]
impl BeamStep {
    /// The token that each new row begins with, shape (rows,), int64.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        Ok(wide(&self.step.tokens)?.into_pyarray(py))
    }

    /// The row of the given logits that each new row continues, shape (rows,), int64.
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        Ok(wide(&self.step.parents)?.into_pyarray(py))
    }

    /// The prompts that ended at this step.
    #[getter]
    fn done<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        object(py, &self.step.done[..])
    }
}

fn wide(values: &[u32]) -> PyResult<Vec<i64>> {
    memory::collect(values.iter().map(|&value| i64::from(value))).map_err(exception)
}

/// A sequence that a beam search has found, or one in progress.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct BeamOutcome {
    pub outcome: Outcome,
}

#[pymethods]
impl BeamOutcome {
    /// The new tokens, with the one that ended them.
    #[getter]
    fn token_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        object(py, &self.outcome.tokens[..])
    }

    /// Each token's log-probability under the model, in nats.
    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        object(py, &self.outcome.logprobs[..])
    }

    /// The search's score.
    #[getter]
    fn score(&self) -> f64 {
        self.outcome.score
    }

    /// "eos", "length" or "stop"; None for a sequence that has not ended.
    #[getter]
    fn ending(&self) -> Option<&'static str> {
        self.outcome.ending.map(|ending| match ending {
            Ending::Eos => "eos",
            Ending::Limit => "length",
            Ending::Stop => "stop",
        })
    }

    /// Its last node in the search's tree.
    #[getter]
    fn node(&self) -> u32 {
        self.outcome.node
    }

    /// In a stochastic beam search, the probability that it is in the sample, given the threshold.
    #[getter]
    fn inclusion(&self) -> Option<f64> {
        self.outcome.inclusion
    }
}

/// Outcomes as a list.
pub fn listed(py: Python<'_>, outcomes: Vec<Outcome>) -> PyResult<Bound<'_, PyAny>> {
    let outcomes = outcomes.into_iter().map(|outcome| BeamOutcome { outcome });
    object(py, memory::collect(outcomes).map_err(exception)?)
}

#[pymethods]
impl BeamState {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each keyword")]
    #[pyo3(signature = (
        beam, prompts, limits, *, eos_token_ids, seed=None, streams=None, indices=None,
        trace=Given::DEFAULT,
    ), text_signature = "(beam, prompts, limits, *, eos_token_ids, seed=None, streams=None, \
        indices=None, trace=False)")]
    fn new(
        beam: &Bound<'_, PyAny>,
        prompts: &Bound<'_, PyAny>,
        limits: &Bound<'_, PyAny>,
        eos_token_ids: &Bound<'_, PyAny>,
        seed: Option<&Bound<'_, PyAny>>,
        streams: Option<&Bound<'_, PyAny>>,
        indices: Option<&Bound<'_, PyAny>>,
        trace: Given<'_, '_>,
    ) -> PyResult<Self> {
        let beam = arguments::instance::<Beam>(beam, "beam")?.get().checked.clone();
        let prompts: Vec<Vec<u32>> = arguments::read(prompts, "prompts")?;
        let each = Each::prompt(prompts.len());
        let limits: Vec<usize> = arguments::values(limits, "limits", each)?;
        let ends = arguments::read(eos_token_ids, "eos_token_ids")?;
        let streams = arguments::words(streams, "streams", each, |index| index as u32)?;
        let indices = arguments::words(indices, "indices", each, |index| index as u32)?;
        let seed = seed.map_or(Ok(0), arguments::seed)?;
        let trace = trace.or("trace", false)?;
        let prompts = prompts
            .into_iter()
            .zip(limits)
            .zip(streams)
            .zip(indices)
            .map(|(((ids, limit), stream), index)| Prompt {
                index: index as usize,
                ids,
                limit,
                stream,
            })
            .collect();
        let state = Core::new(beam, prompts, ends, seed, trace).map_err(exception)?;
        Ok(Self { state })
    }

    /// How many rows of logits the next step takes; 0 when every prompt has ended.
    #[getter]
    fn rows(&self) -> usize {
        self.state.rows()
    }

    /// Take the logits after every live beam's last token and advance each beam by one token.
    ///
    /// Parameters
    /// ----------
    /// logits : array or tensor, (batch, vocab)
    ///     float32, float16 or bfloat16.
    /// allowed : sequence of (sequence of int or None), optional
    ///     For each row the only tokens that it may take; None allows all.
    /// stop : callable, optional
    ///     stop(prompt, token_ids) is called for each candidate; a true result ends it there.
    ///
    /// Returns
    /// -------
    /// BeamStep
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     A number of rows that is not that of the live beams, NaN or +inf, a token outside the
    ///     vocabulary, or constraints that leave a prompt no continuation.
    #[pyo3(signature = (logits, allowed=None, stop=None))]
    fn step(
        &mut self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        allowed: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BeamStep> {
        let array = Borrowed::new(logits)?;
        let logits = array.logits();
        let allowed: Option<Vec<Option<Vec<u32>>>> = arguments::optional(allowed, "allowed")?;
        let stop = stop.map(|stop| arguments::function(stop, "stop")).transpose()?;
        let state = &mut self.state;
        let Some(stop) = stop else {
            let step = detached(py, || {
                let opened = state.open(&logits, allowed.as_deref())?;
                state.advance(opened, None)
            })?;
            return Ok(BeamStep { step });
        };
        let opened = detached(py, || state.open(&logits, allowed.as_deref()))?;
        let mut raised = None;
        let mut ask = |prompt: u32, tokens: &[u32]| {
            let answer =
                stop.call1((prompt, tokens.to_vec())).and_then(|answer| answer.is_truthy());
            answer.unwrap_or_else(|error| {
                raised.get_or_insert(error);
                false
            })
        };
        let step = state.advance(opened, Some(&mut ask));
        match raised {
            Some(error) => Err(error),
            None => Ok(BeamStep { step: step.map_err(exception)? }),
        }
    }

    /// The live beams, one per row: the prompt's index and the new tokens.
    fn live<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.state.live().into_iter().map(|row| (row.prompt, row.tokens));
        object(py, memory::collect(rows).map_err(exception)?)
    }

    /// A prompt's sequences, best first; the live beams of a prompt that has not ended come last.
    ///
    /// Raises
    /// ------
    /// IndexError
    ///     A prompt that does not exist.
    fn outcomes<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let prompt = self.index(prompt)?;
        let outcomes = in_default_float_mode(|| self.state.outcomes(prompt)).map_err(exception)?;
        listed(py, outcomes)
    }

    /// The new tokens that a prompt's best sequence is certain to begin with, and their
    /// log-probabilities.
    ///
    /// Raises
    /// ------
    /// IndexError
    ///     A prompt that does not exist.
    fn settled(&self, prompt: &Bound<'_, PyAny>) -> PyResult<(Vec<u32>, Vec<f64>)> {
        let prompt = self.index(prompt)?;
        Ok(in_default_float_mode(|| self.state.settled(prompt)))
    }

    /// With `trace`, every candidate that a prompt's search has compared: (step, parent node, token,
    /// logprob, score, fate, node), where fate is "kept", "finished" or "pruned". A pruned candidate
    /// has no node; the root is node 0.
    ///
    /// Raises
    /// ------
    /// IndexError
    ///     A prompt that does not exist.
    fn expansions<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let prompt = self.index(prompt)?;
        let tuple = |one: &Expansion| {
            let (fate, node) = match one.fate {
                Fate::Kept(node) => ("kept", Some(node)),
                Fate::Finished(node) => ("finished", Some(node)),
                Fate::Pruned => ("pruned", None),
            };
            (one.step, one.parent, one.token, one.logprob, one.score, fate, node)
        };
        let all = self.state.expansions(prompt).iter().map(tuple);
        object(py, memory::collect(all).map_err(exception)?)
    }
}

impl BeamState {
    fn index(&self, prompt: &Bound<'_, PyAny>) -> PyResult<usize> {
        arguments::index(prompt, "prompt", self.state.prompts())
    }
}
