//! `Beam`, the strategy, and `BeamState`, the search itself.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastdecode_core::beam::{
    Beam as Checked, BeamParams, BeamState as Core, Choice, EarlyStopping, Ending, Expansion, Fate,
    Outcome, Prompt,
};
use fastdecode_core::{EditParams, Params, Sampler};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};

use crate::arguments;
use crate::borrow::Borrowed;
use crate::outcome::{detached, refusal};
use crate::params::{Sample, biases, dry_params, edit_settings, set_changed, wrong};

/// Beam search: keep the `num_beams` likeliest sequences, and grow them together.
///
/// The rules and names are transformers'. On equal scores the earlier beam comes first, then the
/// lower token id.
///
/// Parameters
/// ----------
/// num_beams : int, default 4
///     Sequences kept at each step, 1..4096; 1 is greedy.
/// length_penalty : float, default 1.0
///     A finished sequence's score is its log-probability (nats) divided by its number of new
///     tokens to this power: above 0 favours long sequences, 0 compares the sums.
/// early_stopping : bool or "never", default False
///     When a prompt with `num_beams` finished sequences stops. True: at once. False: when the best
///     live one, scored at its present length, is no better than the worst finished one. "never":
///     when no live one can become better within the limit; with length_penalty >= 0 nothing that
///     could win is lost.
/// num_return_sequences : int, default 1
///     Sequences returned for each prompt, best first; at most num_beams.
/// num_beam_groups : int, default 1
///     Groups of beams that are kept apart (Vijayakumar et al., 2018); divides num_beams.
/// diversity_penalty : float, default 0.0
///     Nats taken off a token for each beam of an earlier group that has just taken it.
/// sample : Sample, optional
///     Beam sampling: draw the candidates without replacement, in proportion to the beam's
///     probability times this law, instead of taking the best. Scores stay the model's. Its
///     penalties and bans are given to the beam search itself.
/// stochastic : bool, default False
///     Stochastic beam search (Kool et al., 2019): num_beams sequences drawn without replacement
///     from the model, or from `sample`'s law, each with its inclusion probability.
/// allowed : list of int, or callable, optional
///     Bans all other tokens. allowed(prompt_index, token_ids) gives the tokens that may come next
///     behind the prompt's and the generated token ids (transformers' prefix_allowed_tokens_fn).
/// repetition_penalty, frequency_penalty, presence_penalty, dry, no_repeat_ngram_size
///     As in `Sample`, and so are the next four, with what is said there.
/// logit_bias, bad_words, min_new_tokens, eos_token_id
///     As in `Sample`. They act on log-probabilities, as transformers has it in a beam search, and
///     see the prompt and each beam's own tokens.
///
/// Raises
/// ------
/// ValueError
///     A value out of range, or two settings that exclude each other.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct Beam {
    checked: Checked,
    sample: Option<Py<Sample>>,
    allowed: Option<Py<PyAny>>,
}

#[pymethods]
impl Beam {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each keyword")]
    #[pyo3(signature = (
        num_beams=4, length_penalty=1.0, early_stopping=None, num_return_sequences=1, *,
        num_beam_groups=1, diversity_penalty=0.0, sample=None, stochastic=false, allowed=None,
        repetition_penalty=1.0, frequency_penalty=0.0, presence_penalty=0.0, dry=None,
        no_repeat_ngram_size=0, logit_bias=None, bad_words=None, min_new_tokens=0,
        eos_token_id=None,
    ))]
    fn new(
        num_beams: i64,
        length_penalty: f64,
        early_stopping: Option<&Bound<'_, PyAny>>,
        num_return_sequences: i64,
        num_beam_groups: i64,
        diversity_penalty: f64,
        sample: Option<Py<Sample>>,
        stochastic: bool,
        allowed: Option<Bound<'_, PyAny>>,
        repetition_penalty: f64,
        frequency_penalty: f64,
        presence_penalty: f64,
        dry: Option<Bound<'_, PyAny>>,
        no_repeat_ngram_size: i64,
        logit_bias: Option<Bound<'_, PyAny>>,
        bad_words: Option<&Bound<'_, PyAny>>,
        min_new_tokens: i64,
        eos_token_id: Option<Vec<u32>>,
    ) -> PyResult<Self> {
        let (function, ids) = allowed.map_or(Ok((None, None)), either)?;
        let sampler = match &sample {
            None => Sampler::new(Params::default()).map_err(|error| refusal(&error))?,
            Some(sample) => plain_sampler(sample.get())?,
        };
        let choice = match (sample.is_some(), stochastic) {
            (_, true) => Choice::Stochastic(sampler),
            (true, false) => Choice::Sampled(sampler),
            (false, false) => Choice::Best,
        };
        let edits = EditParams {
            logit_bias: logit_bias.map(|value| biases(&value)).transpose()?.unwrap_or_default(),
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            dry: dry.map(|value| dry_params(&value)).transpose()?,
            no_repeat_ngram_size,
            bad_words: bad_words.map(words).transpose()?.unwrap_or_default(),
            min_new_tokens,
            eos: eos_token_id.unwrap_or_default(),
            allowed: ids,
        };
        let params = BeamParams {
            num_beams,
            length_penalty,
            early_stopping: early_stopping.map_or(Ok(EarlyStopping::default()), stopping)?,
            num_return_sequences,
            num_beam_groups,
            diversity_penalty,
            choice,
            edits,
        };
        let checked = Checked::new(params).map_err(|error| refusal(&error))?;
        Ok(Self { checked, sample, allowed: function })
    }

    #[getter]
    fn num_beams(&self) -> i64 {
        self.checked.params().num_beams
    }

    #[getter]
    fn length_penalty(&self) -> f64 {
        self.checked.params().length_penalty
    }

    #[getter]
    fn early_stopping<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let flag = |value: bool| PyBool::new(py, value).to_owned().into_any();
        match self.checked.params().early_stopping {
            EarlyStopping::Heuristic => flag(false),
            EarlyStopping::Full => flag(true),
            EarlyStopping::Never => PyString::new(py, "never").into_any(),
        }
    }

    #[getter]
    fn num_return_sequences(&self) -> i64 {
        self.checked.params().num_return_sequences
    }

    #[getter]
    fn num_beam_groups(&self) -> i64 {
        self.checked.params().num_beam_groups
    }

    #[getter]
    fn diversity_penalty(&self) -> f64 {
        self.checked.params().diversity_penalty
    }

    #[getter]
    fn sample(&self, py: Python<'_>) -> Option<Py<Sample>> {
        self.sample.as_ref().map(|sample| sample.clone_ref(py))
    }

    #[getter]
    fn stochastic(&self) -> bool {
        matches!(self.checked.params().choice, Choice::Stochastic(_))
    }

    /// The function that says which tokens may come next, where there is one.
    #[getter]
    fn allowed(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.allowed.as_ref().map(|allowed| allowed.clone_ref(py))
    }

    /// Every parameter that is not at its default: `Beam(**settings)` is equal.
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (params, plain) = (self.checked.params(), BeamParams::default());
        let all = PyDict::new(py);
        all.set_item("num_beams", params.num_beams)?;
        set_changed!(all, length_penalty, params, plain);
        if params.early_stopping != plain.early_stopping {
            all.set_item("early_stopping", self.early_stopping(py))?;
        }
        set_changed!(all, num_return_sequences, params, plain);
        set_changed!(all, num_beam_groups, params, plain);
        set_changed!(all, diversity_penalty, params, plain);
        if let Some(sample) = &self.sample {
            all.set_item("sample", sample)?;
        }
        if self.stochastic() {
            all.set_item("stochastic", true)?;
        }
        edit_settings(&all, self.checked.edits().params())?;
        if let Some(allowed) = &self.allowed {
            all.set_item("allowed", allowed)?;
        }
        Ok(all)
    }

    /// The same parameters with these end-of-sequence tokens.
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn with_eos(&self, py: Python<'_>, eos_token_id: Vec<u32>) -> PyResult<Self> {
        let checked = self.checked.clone().with_eos(&eos_token_id);
        Ok(Self {
            checked: checked.map_err(|error| refusal(&error))?,
            sample: self.sample.as_ref().map(|sample| sample.clone_ref(py)),
            allowed: self.allowed(py),
        })
    }

    /// Refuse token ids that a vocabulary of this size does not have.
    fn check_vocabulary(&self, size: usize) -> PyResult<()> {
        self.checked.edits().check(size).map_err(|error| refusal(&error))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = Vec::new();
        for (name, value) in self.settings(py)? {
            parts.push(format!("{name}={}", value.repr()?));
        }
        Ok(format!("Beam({})", parts.join(", ")))
    }

    fn __eq__(&self, other: &Self) -> bool {
        let function = |beam: &Self| beam.allowed.as_ref().map(Py::as_ptr);
        self.checked == other.checked && function(self) == function(other)
    }

    fn __hash__(&self) -> u64 {
        let params = self.checked.params();
        let mut hasher = DefaultHasher::new();
        (params.num_beams, params.num_return_sequences, params.num_beam_groups).hash(&mut hasher);
        // Adding zero makes -0.0 hash like 0.0, which it equals.
        (params.length_penalty + 0.0).to_bits().hash(&mut hasher);
        hasher.finish()
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.settings(py)?))
    }
}

/// `allowed` as a function, or as ids.
type Either = (Option<Py<PyAny>>, Option<Vec<u32>>);

fn either(allowed: Bound<'_, PyAny>) -> PyResult<Either> {
    if allowed.is_callable() {
        return Ok((Some(allowed.unbind()), None));
    }
    let ids = allowed.extract().map_err(|_| {
        let fix = "allowed must be token ids, or a function of (prompt_index, token_ids)";
        wrong(fix, &allowed)
    })?;
    Ok((None, Some(ids)))
}

/// The part of a `Sample` that a beam search draws by.
fn plain_sampler(sample: &Sample) -> PyResult<Sampler> {
    let edits = sample.pipeline.edits();
    if edits.is_empty() {
        return Ok(*sample.pipeline.sampler());
    }
    Err(PyValueError::new_err(
        "sample has penalties or bans of its own; in a beam search give them to Beam itself",
    ))
}

fn stopping(value: &Bound<'_, PyAny>) -> PyResult<EarlyStopping> {
    if let Ok(flag) = value.cast::<PyBool>() {
        let full = flag.is_true();
        return Ok(if full { EarlyStopping::Full } else { EarlyStopping::Heuristic });
    }
    match value.extract::<String>() {
        Ok(word) if word == "never" => Ok(EarlyStopping::Never),
        _ => Err(PyValueError::new_err(format!(
            "early_stopping={} must be True, False or \"never\"",
            value.repr()?
        ))),
    }
}

/// Token sequences.
fn words(value: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    let fix = "bad_words must be a sequence of sequences of token ids, as [[50256], [198, 198]]";
    value.extract().map_err(|_| wrong(fix, value))
}

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
    step: fastdecode_core::beam::Step,
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
    outcome: Outcome,
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
