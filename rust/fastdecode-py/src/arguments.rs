//! Python integers as the core's, refused with a message that names the argument and its range.

use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};

use crate::outcome::refusal;

/// An integer in `0..=max`; anything with `__index__` counts as one.
fn unsigned(value: &Bound<'_, PyAny>, name: &str, max: u64) -> PyResult<u64> {
    if value.is_instance_of::<PyBool>() || !value.hasattr("__index__")? {
        let kind = value.get_type();
        return Err(PyTypeError::new_err(format!(
            "{name} must be an integer, got {} of type {}",
            value.repr()?,
            kind.name()?
        )));
    }
    let index = value.call_method0("__index__")?;
    let number = index.cast::<PyInt>()?.extract::<u64>().ok().filter(|&number| number <= max);
    number.ok_or_else(|| {
        let bits = 64 - max.leading_zeros();
        PyValueError::new_err(format!("{name}={index} is outside 0..2**{bits}-1"))
    })
}

/// The seed of a run.
pub fn seed(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    unsigned(value, "seed", u64::MAX)
}

/// A stream, sample or position.
pub fn word(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u32> {
    Ok(unsigned(value, name, u32::MAX.into())? as u32)
}

/// One word a row: from nothing (`default`), one integer for all rows, or a sequence.
pub fn words(
    value: Option<&Bound<'_, PyAny>>,
    name: &'static str,
    rows: usize,
    default: impl Fn(usize) -> u32,
) -> PyResult<Vec<u32>> {
    let Some(value) = value else {
        return Ok((0..rows).map(default).collect());
    };
    let words = if let Ok(array) = value.cast::<PyArray1<u32>>() {
        // The loop's own arrays: no Python object per entry.
        let array = array.readonly();
        array.as_array().to_vec()
    } else if value.hasattr("__index__")? && !value.hasattr("__len__")? {
        return Ok(vec![word(value, name)?; rows]);
    } else {
        let entries = value.try_iter().map_err(|_| {
            PyTypeError::new_err(format!("{name} must be an integer or a sequence of integers"))
        })?;
        let mut words = Vec::with_capacity(rows);
        for (index, entry) in entries.enumerate() {
            words.push(word(&entry?, &format!("{name}[{index}]"))?);
        }
        words
    };
    if words.len() == rows {
        Ok(words)
    } else {
        Err(refusal(&fastdecode_core::Error::Length { name, got: words.len(), rows }))
    }
}

/// One token id a row, any sign: the core checks the range.
pub fn tokens(value: &Bound<'_, PyAny>, rows: usize) -> PyResult<Vec<i64>> {
    let tokens: Vec<i64> = match value.cast::<PyArray1<i64>>() {
        Ok(array) if array.len() == rows => array.readonly().as_array().to_vec(),
        _ => value.extract().map_err(|_| {
            PyTypeError::new_err("tokens must be a sequence of integers, one a row of logits")
        })?,
    };
    if tokens.len() == rows {
        Ok(tokens)
    } else {
        let error = fastdecode_core::Error::Length { name: "tokens", got: tokens.len(), rows };
        Err(refusal(&error))
    }
}
