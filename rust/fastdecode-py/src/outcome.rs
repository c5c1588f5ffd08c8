//! The two crossings between Python and the core: without the GIL, and with one error mapping.

use fastdecode_core::Error;
use pyo3::exceptions::PyValueError;
use pyo3::marker::Ungil;
use pyo3::prelude::*;

/// Runs `work` with the GIL released and turns the core's refusal into a Python exception.
pub fn detached<T: Send>(
    py: Python<'_>,
    work: impl Ungil + FnOnce() -> fastdecode_core::Result<T>,
) -> PyResult<T> {
    py.detach(work).map_err(|error| refusal(&error))
}

/// The core's messages are written for the user; each of its refusals is about a value.
pub fn refusal(error: &Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
