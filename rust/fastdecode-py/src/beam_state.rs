//! `BeamState`: a beam search under way.

use fastdecode_core::beam::{BeamState as Core, Ending, Expansion, Fate, Outcome, Prompt, Step};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments;
use crate::beam::Beam;
use crate::borrow::Borrowed;
use crate::outcome::{detached, refusal};

/// A beam search under way, for all prompts of a batch. Engine-neutral: logits in, tokens and the
/// rows they go on from out.
///
/// Its rows are the live beams, prompt after prompt. At first that is one row a prompt: the logits
/// behind the prompt. After that, the rows of `BeamStep.tokens`.
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
///     0..2**32-1, one a prompt; by default the prompt's index.
/// indices : sequence of int, optional
///     What the prompts are called in messages; by default 0, 1, ...
/// trace : bool, default False
///     Keep every candidate for `expansions`.
#[pyclass(module = "fastdecode._core")]
pub struct BeamState {
    state: Core,
}

/// What to do next: the new rows' tokens, and the rows of the last logits they go on from.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct BeamStep {
    pub step: Step,
}

#[pymethods]
impl BeamStep {
    /// The token that each new row begins with, shape (rows,), int64.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        wide(&self.step.tokens).into_pyarray(py)
    }

    /// The row of the logits just given that each new row goes on from, shape (rows,), int64.
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        wide(&self.step.parents).into_pyarray(py)
    }

    /// The prompts that ended at this step.
    #[getter]
    fn done(&self) -> Vec<u32> {
        self.step.done.clone()
    }
}

fn wide(values: &[u32]) -> Vec<i64> {
    values.iter().map(|&value| i64::from(value)).collect()
}

/// A sequence that a beam search found, or one under way.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct BeamOutcome {
    pub outcome: Outcome,
}

#[pymethods]
impl BeamOutcome {
    /// The new tokens, with the one that ended them.
    #[getter]
    fn token_ids(&self) -> Vec<u32> {
        self.outcome.tokens.clone()
    }

    /// Each token's log-probability under the model, in nats.
    #[getter]
    fn logprobs(&self) -> Vec<f64> {
        self.outcome.logprobs.clone()
    }

    /// The search's score.
    #[getter]
    fn score(&self) -> f64 {
        self.outcome.score
    }

    /// "eos", "length", "stop", or None where the search was left before its end.
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

    /// In a stochastic beam search, the probability that it is in the sample given the threshold.
    #[getter]
    fn inclusion(&self) -> Option<f64> {
        self.outcome.inclusion
    }
}

#[pymethods]
impl BeamState {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each keyword")]
    #[pyo3(signature = (
        beam, prompts, limits, *, eos_token_ids, seed=None, streams=None, indices=None, trace=false
    ))]
    fn new(
        beam: &Beam,
        prompts: Vec<Vec<u32>>,
        limits: Vec<usize>,
        eos_token_ids: Vec<u32>,
        seed: Option<&Bound<'_, PyAny>>,
        streams: Option<&Bound<'_, PyAny>>,
        indices: Option<&Bound<'_, PyAny>>,
        trace: bool,
    ) -> PyResult<Self> {
        let count = prompts.len();
        if limits.len() != count {
            return Err(PyValueError::new_err(format!(
                "limits has {} entries for {count} prompts; give one a prompt",
                limits.len()
            )));
        }
        let streams = arguments::words(streams, "streams", count, |index| index as u32)?;
        let indices = arguments::words(indices, "indices", count, |index| index as u32)?;
        let seed = seed.map_or(Ok(0), arguments::seed)?;
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
        let state = Core::new(beam.checked.clone(), prompts, eos_token_ids, seed, trace);
        Ok(Self { state: state.map_err(|error| refusal(&error))? })
    }

    /// How many rows of logits the next step takes; 0 when every prompt has ended.
    #[getter]
    fn rows(&self) -> usize {
        self.state.rows()
    }

    /// Take the logits behind every live beam and move each a token on.
    ///
    /// Parameters
    /// ----------
    /// logits : array or tensor, (rows, vocab)
    ///     float32, float16 or bfloat16.
    /// allowed : sequence of (sequence of int or None), optional
    ///     For each row the tokens that it may take; None: all.
    /// stop : callable, optional
    ///     stop(prompt, token_ids) is asked for each candidate whether it ends there.
    ///
    /// Returns
    /// -------
    /// BeamStep
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     Another number of rows than live beams, NaN or +inf, a token outside the vocabulary, or
    ///     constraints that leave a prompt no way on.
    #[pyo3(signature = (logits, allowed=None, stop=None))]
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python are owned")]
    fn step(
        &mut self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        allowed: Option<Vec<Option<Vec<u32>>>>,
        stop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BeamStep> {
        let array = Borrowed::new(logits)?;
        let logits = array.logits();
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
            None => Ok(BeamStep { step: step.map_err(|error| refusal(&error))? }),
        }
    }

    /// The live beams, one a row: the prompt's index and the new tokens.
    fn live(&self) -> Vec<(u32, Vec<u32>)> {
        self.state.live().into_iter().map(|row| (row.prompt, row.tokens)).collect()
    }

    /// A prompt's sequences, best first; live beams come last, where it has not ended.
    fn outcomes(&self, prompt: usize) -> PyResult<Vec<BeamOutcome>> {
        self.check(prompt)?;
        let outcomes = self.state.outcomes(prompt);
        Ok(outcomes.into_iter().map(|outcome| BeamOutcome { outcome }).collect())
    }

    /// The new tokens that a prompt's best sequence is sure to begin with, and their
    /// log-probabilities.
    fn settled(&self, prompt: usize) -> PyResult<(Vec<u32>, Vec<f64>)> {
        self.check(prompt)?;
        Ok(self.state.settled(prompt))
    }

    /// Every candidate that a prompt's search compared, if it was asked to keep them:
    /// (step, parent node, token, logprob, score, fate, node), where fate is "kept", "finished" or
    /// "pruned", a pruned one has no node, and the root is node 0.
    fn expansions<'py>(
        &self,
        py: Python<'py>,
        prompt: usize,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.check(prompt)?;
        let tuple = |one: &Expansion| {
            let (fate, node) = match one.fate {
                Fate::Kept(node) => ("kept", Some(node)),
                Fate::Finished(node) => ("finished", Some(node)),
                Fate::Pruned => ("pruned", None),
            };
            (one.step, one.parent, one.token, one.logprob, one.score, fate, node).into_pyobject(py)
        };
        self.state.expansions(prompt).iter().map(tuple).collect()
    }
}

impl BeamState {
    fn check(&self, prompt: usize) -> PyResult<()> {
        let count = self.state.prompts();
        if prompt < count {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("prompt={prompt} is not in 0..{count}")))
    }
}
