//! `Sample`: the sampling parameters, checked when made. Their list is the core's table.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use fastdecode_core::parameter::{Parameter, Value};
use fastdecode_core::{Params, Pipeline, PipelineParams, Stage, parameters};
use fastdecode_simd::in_default_float_mode;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::arguments;
use crate::errors::exception;
use crate::values;

/// The parameters that may be given by position, in their order.
const POSITIONAL: [&str; 3] = ["temperature", "top_k", "top_p"];

/// The stages whose parameters it has.
const STAGES: &[Stage] = &[Stage::Truncation, Stage::Processor];

#[doc = include_str!("../docs/sample.txt")]
#[pyclass(frozen, module = "fastdecode._core")]
pub struct Sample {
    pub pipeline: Arc<Pipeline>,
}

#[pymethods]
impl Sample {
    #[new]
    #[pyo3(signature = (*arguments, **keywords), text_signature = None)]
    fn new(arguments: &Bound<'_, PyTuple>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        if arguments.len() > POSITIONAL.len() {
            return Err(PyTypeError::new_err(format!(
                "Sample() takes from 0 to {} positional arguments but {} were given",
                POSITIONAL.len(),
                arguments.len()
            )));
        }
        let mut params = PipelineParams::default();
        for (name, value) in POSITIONAL.into_iter().zip(arguments) {
            if keywords.is_some_and(|keywords| keywords.contains(name).unwrap_or(false)) {
                return Err(PyTypeError::new_err(format!(
                    "Sample() got multiple values for argument '{name}'"
                )));
            }
            set_keyword("Sample", STAGES, &mut params, name, &value)?;
        }
        for (name, value) in keywords.into_iter().flatten() {
            set_keyword("Sample", STAGES, &mut params, &name.to_string(), &value)?;
        }
        let pipeline =
            in_default_float_mode(|| Pipeline::new(params.truncation, params.processors));
        Ok(Self { pipeline: Arc::new(pipeline.map_err(exception)?) })
    }

    #[getter]
    fn temperature(&self) -> f64 {
        self.params().temperature
    }

    #[getter]
    fn top_k(&self) -> Option<i64> {
        self.params().top_k
    }

    #[getter]
    fn top_p(&self) -> Option<f64> {
        self.params().top_p
    }

    /// Whether a row's history (prompt and text so far) can change its logits.
    #[getter]
    fn needs_history(&self) -> bool {
        self.pipeline.processors().needs_history()
    }

    /// Whether each row carries mirostat's state from step to step.
    #[getter]
    fn adapts(&self) -> bool {
        self.params().mirostat.is_some()
    }

    /// Every parameter that is not at its default, as plain data: `Sample(**settings)` is equal.
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (parameter, value) in self.changed() {
            all.set_item(parameter.name, values::write(py, &value)?)?;
        }
        Ok(all)
    }

    /// The same parameters with these end-of-sequence tokens.
    fn with_eos(&self, eos_token_id: &Bound<'_, PyAny>) -> PyResult<Self> {
        let eos: Vec<u32> = arguments::read(eos_token_id, "eos_token_id")?;
        let pipeline = in_default_float_mode(|| self.pipeline.with_eos(&eos)).map_err(exception)?;
        Ok(Self { pipeline: Arc::new(pipeline) })
    }

    /// Refuse token ids that a vocabulary of this size does not have.
    fn check_vocabulary(&self, size: &Bound<'_, PyAny>) -> PyResult<()> {
        let size = arguments::read(size, "size")?;
        self.pipeline.processors().check(size).map_err(exception)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = vec![format!("temperature={:?}", self.temperature())];
        for (name, value) in self.settings(py)? {
            if name.to_string() != "temperature" {
                parts.push(format!("{name}={}", value.repr()?));
            }
        }
        Ok(format!("Sample({})", parts.join(", ")))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.pipeline == other.pipeline
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (parameter, value) in self.changed() {
            parameter.name.hash(&mut hasher);
            values::hash(&value, &mut hasher);
        }
        hasher.finish()
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.settings(py)?))
    }
}

impl Sample {
    fn params(&self) -> Params {
        self.pipeline.sampler().params()
    }

    /// The parameters that are not at their defaults, in the order of the signature.
    fn changed(&self) -> Vec<(Parameter, Value)> {
        let params = PipelineParams {
            processors: self.pipeline.processors().params().clone(),
            truncation: self.params(),
        };
        let mut changed = changed(&params);
        let by_keyword = |name| POSITIONAL.iter().position(|&other| other == name).unwrap_or(3);
        changed.sort_by_key(|(stage, parameter, _)| {
            (by_keyword(parameter.name), *stage == Stage::Processor)
        });
        changed.into_iter().map(|(_, parameter, value)| (parameter, value)).collect()
    }
}

/// The parameters that are not at their defaults, with their values, in the order of the table.
pub fn changed(params: &PipelineParams) -> Vec<(Stage, Parameter, Value)> {
    let rows = parameters().into_iter().zip(params.values());
    let rows = rows.filter(|((_, parameter), value)| parameter.default != *value);
    rows.map(|((stage, parameter), value)| (stage, parameter, value)).collect()
}

/// Sets the parameter of a keyword, if it is one of these stages.
///
/// # Errors
/// `TypeError` for a keyword that is no parameter, as Python words it, or a value of another type.
pub fn set_keyword(
    class: &str,
    stages: &[Stage],
    params: &mut PipelineParams,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let mut known = parameters().into_iter().filter(|(stage, _)| stages.contains(stage));
    let Some((_, parameter)) = known.find(|(_, parameter)| parameter.name == name) else {
        return Err(unknown(value.py(), class, name));
    };
    values::set(params, &parameter, value)
}

/// The exception for a keyword that a class does not have. Which name may be meant is decided where
/// it is for the keywords of `generate`.
fn unknown(py: Python<'_>, class: &str, name: &str) -> PyErr {
    let message = || -> PyResult<String> {
        let module = py.import("fastdecode.options.misspelt")?;
        module.call_method1("of_strategy", (class, name))?.extract()
    };
    message().map_or_else(|error| error, PyTypeError::new_err)
}

/// The table of `Sample`'s parameters, in the order in which they act.
///
/// Returns
/// -------
/// list of dict
///     For each parameter its name, its stage ("processor" or "truncation"), its kind ("flag",
///     "integer", "number", "numbers" with their names and how many are required, "tokens",
///     "sequences", "biases", or "record" with its fields), its default, a value that turns it
///     off, its range and what it does.
#[pyfunction(name = "parameters")]
pub fn table(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    values::table(py)
}
