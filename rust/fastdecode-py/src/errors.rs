//! Errors of the Rust crates as Python exceptions, and the calls that run without the GIL.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use fastdecode_core::error::{ErrorKind as CoreKind, Subject};
use fastdecode_engine::ErrorKind as EngineKind;
use fastdecode_simd::in_default_float_mode;
use fastdecode_simd::memory::{self, Refused};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyOSError, PyValueError};
use pyo3::marker::Ungil;
use pyo3::prelude::*;

/// Runs `work` with the GIL released, in the default floating-point mode; its error becomes an
/// exception.
pub fn detached<T: Send, E: Exception + Send>(
    py: Python<'_>,
    work: impl Ungil + FnOnce() -> Result<T, E>,
) -> PyResult<T> {
    memory::check().map_err(exception)?;
    in_default_float_mode(|| py.detach(work)).map_err(exception)
}

/// A value as a Python object; see [`objects`].
pub fn object<'py>(py: Python<'py>, value: impl IntoPyObject<'py>) -> PyResult<Bound<'py, PyAny>> {
    objects(py, || value.into_bound_py_any(py))
}

/// What `make` makes, which are Python objects. PyO3 panics where Python cannot allocate one; with many
/// objects in a list, that is a `MemoryError`.
pub fn objects<T>(py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let made = catch_unwind(AssertUnwindSafe(make));
    made.unwrap_or_else(|panic| match panic.downcast_ref::<&str>() {
        Some(&"PyObject pointer is null") => {
            // Python's own exception is still set, and this one takes its place.
            drop(PyErr::take(py));
            Err(PyMemoryError::new_err("there is no memory for the objects of a result"))
        }
        _ => resume_unwind(panic),
    })
}

/// An error as the exception of its kind.
pub fn exception(error: impl Exception) -> PyErr {
    error.exception()
}

/// An error of a Rust crate that has a Python exception for each of its kinds.
pub trait Exception {
    fn exception(self) -> PyErr;
}

impl Exception for fastdecode_core::Error {
    fn exception(self) -> PyErr {
        let message = self.naming(python_name);
        match self.kind() {
            CoreKind::Value => PyValueError::new_err(message),
            CoreKind::Index => PyIndexError::new_err(message),
            CoreKind::Memory => PyMemoryError::new_err(message),
        }
    }
}

impl Exception for Refused {
    fn exception(self) -> PyErr {
        PyMemoryError::new_err(self.to_string())
    }
}

impl Exception for fastdecode_engine::Error {
    fn exception(self) -> PyErr {
        Named(self, |row| format!("tokens[{row}]")).exception()
    }
}

/// An engine's error with the name that a call has for the tokens of a row.
pub struct Named<F>(pub fastdecode_engine::Error, pub F);

impl<F: FnOnce(usize) -> String> Exception for Named<F> {
    fn exception(self) -> PyErr {
        let Self(error, name) = self;
        let message = error.naming(name);
        match error.kind() {
            EngineKind::Value => PyValueError::new_err(message),
            EngineKind::Index => PyIndexError::new_err(message),
            EngineKind::Memory => PyMemoryError::new_err(message),
            EngineKind::File { path, source } => os_error(path, source, message),
        }
    }
}

/// `OSError` with an error number makes itself a `FileNotFoundError`, `PermissionError`, ...
fn os_error(path: &Path, source: &io::Error, message: String) -> PyErr {
    let Some(number) = source.raw_os_error() else { return PyOSError::new_err(message) };
    let reason = source.to_string();
    let reason = reason.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((number, reason, path.as_os_str().to_owned()))
}

/// The name that the calls of `fastdecode.core` have for what an error is about.
fn python_name(subject: Subject) -> String {
    match subject {
        Subject::History(row) => format!("histories[{row}]"),
        Subject::Histories => "histories=".to_owned(),
        Subject::Key => "seed= (and streams, samples, positions)".to_owned(),
        Subject::Prompt(index) => format!("prompts[{index}]"),
        Subject::Limit(index) => format!("limits[{index}]"),
        Subject::Token { row, token } => format!("tokens[{row}]={token}"),
        Subject::Parameter("ends") => "eos_token_ids".to_owned(),
        Subject::Parameter("limit") => "max_new_tokens".to_owned(),
        Subject::Parameter(name) => match name.strip_prefix("dry_") {
            Some(entry) => format!("dry['{entry}']"),
            None => name.to_owned(),
        },
    }
}
