//! `Beam`, the strategy: checked when made.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastdecode_core::beam::{Beam as Checked, BeamParams, Choice, EarlyStopping};
use fastdecode_core::{Params, ProcessorParams, Sampler};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};

use crate::outcome::refusal;
use crate::params::{Sample, biases, dry_params, processor_settings, set_changed, wrong};

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
    pub checked: Checked,
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
        let processors = ProcessorParams {
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
            processors,
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
        processor_settings(&all, self.checked.processors().params())?;
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
        self.checked.processors().check(size).map_err(|error| refusal(&error))
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
    let processors = sample.pipeline.processors();
    if processors.is_empty() {
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
