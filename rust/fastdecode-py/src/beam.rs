//! `Beam`, the parameters of a beam search, checked when it is made.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastdecode_core::beam::{Beam as Checked, BeamParams, Choice, EarlyStopping};
use fastdecode_core::{PipelineParams, Stage};
use fastdecode_simd::in_default_float_mode;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};

use crate::arguments::{self, Given, shown};
use crate::errors::exception;
use crate::params::{Sample, changed, set_keyword};
use crate::values;

/// Puts a field into a dict if it is not at its default.
macro_rules! set_changed {
    ($all:expr, $name:ident, $from:expr, $default:expr) => {
        if $from.$name != $default.$name {
            $all.set_item(stringify!($name), $from.$name.clone())?;
        }
    };
}

#[doc = include_str!("../docs/beam.txt")]
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
        num_beams=Given::DEFAULT, length_penalty=Given::DEFAULT, early_stopping=None,
        num_return_sequences=Given::DEFAULT, *, num_beam_groups=Given::DEFAULT,
        diversity_penalty=Given::DEFAULT, sample=None, stochastic=Given::DEFAULT, allowed=None,
        **processors,
    ), text_signature = None)]
    fn new(
        num_beams: Given<'_, '_>,
        length_penalty: Given<'_, '_>,
        early_stopping: Option<&Bound<'_, PyAny>>,
        num_return_sequences: Given<'_, '_>,
        num_beam_groups: Given<'_, '_>,
        diversity_penalty: Given<'_, '_>,
        sample: Option<&Bound<'_, PyAny>>,
        stochastic: Given<'_, '_>,
        allowed: Option<Bound<'_, PyAny>>,
        processors: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (function, ids) = allowed.map_or(Ok((None, None)), either)?;
        let sample =
            sample.map(|sample| arguments::instance::<Sample>(sample, "sample")).transpose()?;
        let pipeline = sample.map(|sample| &*sample.get().pipeline);
        let stochastic = stochastic.or("stochastic", false)?;
        let mut all = PipelineParams::default();
        for (name, value) in processors.into_iter().flatten() {
            set_keyword("Beam", &[Stage::Processor], &mut all, &name.to_string(), &value)?;
        }
        all.processors.allowed = ids;
        let plain = BeamParams::default();
        let params = BeamParams {
            num_beams: num_beams.or("num_beams", plain.num_beams)?,
            length_penalty: length_penalty.or("length_penalty", plain.length_penalty)?,
            early_stopping: early_stopping.map_or(Ok(plain.early_stopping), stopping)?,
            num_return_sequences: num_return_sequences
                .or("num_return_sequences", plain.num_return_sequences)?,
            num_beam_groups: num_beam_groups.or("num_beam_groups", plain.num_beam_groups)?,
            diversity_penalty: diversity_penalty
                .or("diversity_penalty", plain.diversity_penalty)?,
            choice: in_default_float_mode(|| Choice::new(pipeline, stochastic))
                .map_err(exception)?,
            processors: all.processors,
        };
        let checked = in_default_float_mode(|| Checked::new(params)).map_err(exception)?;
        let sample = sample.map(|sample| sample.clone().unbind());
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

    /// The function that returns the tokens that may come next, if one was given.
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
        let processors = self.checked.processors().params().clone();
        let given = PipelineParams { processors, ..PipelineParams::default() };
        for (_, parameter, value) in changed(&given) {
            all.set_item(parameter.name, values::write(py, &value)?)?;
        }
        if let Some(allowed) = &self.allowed {
            all.set_item("allowed", allowed)?;
        }
        Ok(all)
    }

    /// The same parameters with these end-of-sequence tokens.
    fn with_eos(&self, py: Python<'_>, eos_token_id: &Bound<'_, PyAny>) -> PyResult<Self> {
        let eos: Vec<u32> = arguments::read(eos_token_id, "eos_token_id")?;
        let checked = in_default_float_mode(|| self.checked.clone().with_eos(&eos));
        Ok(Self {
            checked: checked.map_err(exception)?,
            sample: self.sample.as_ref().map(|sample| sample.clone_ref(py)),
            allowed: self.allowed(py),
        })
    }

    /// Refuse token ids that a vocabulary of this size does not have.
    fn check_vocabulary(&self, size: &Bound<'_, PyAny>) -> PyResult<()> {
        let size = arguments::read(size, "size")?;
        self.checked.processors().check(size).map_err(exception)
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
    let must = "token ids, or a function of (prompt_index, token_ids)";
    let ids = values::tokens("allowed", must, &allowed)?;
    Ok((None, Some(ids)))
}

fn stopping(value: &Bound<'_, PyAny>) -> PyResult<EarlyStopping> {
    if let Ok(full) = value.extract::<bool>() {
        return Ok(if full { EarlyStopping::Full } else { EarlyStopping::Heuristic });
    }
    match value.extract::<String>() {
        Ok(word) if word == "never" => Ok(EarlyStopping::Never),
        _ => Err(PyValueError::new_err(format!(
            "early_stopping={} must be True, False or \"never\"",
            shown(value)
        ))),
    }
}
