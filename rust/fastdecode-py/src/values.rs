//! Values of parameters, between Python and the core's table.

use std::hash::{Hash, Hasher};

use fastdecode_core::parameter::{Field, Kind, Parameter, Value};
use fastdecode_core::{PipelineParams, Stage};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::arguments::{self, shown};

/// Sets a parameter to what a caller gives.
///
/// # Errors
/// `TypeError` for a value of another type, which names the parameter.
pub fn set(
    params: &mut PipelineParams,
    parameter: &Parameter,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let optional = parameter.default == Value::Nothing;
    let converted = if optional && value.is_none() {
        Value::Nothing
    } else {
        read(parameter.name, parameter.kind, value)?
    };
    if params.set(parameter.name, converted) {
        Ok(())
    } else {
        Err(wrong(parameter.name, parameter.kind, value))
    }
}

/// A Python value as one of a kind.
fn read(name: &str, kind: Kind, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let read = match kind {
        Kind::Integer => return arguments::read(value, name).map(Value::Integer),
        Kind::Number => return arguments::read(value, name).map(Value::Number),
        Kind::Numbers { names, required } => value
            .extract::<Vec<f64>>()
            .ok()
            .filter(|numbers| (required..=names.len()).contains(&numbers.len()))
            .map(Value::Numbers)
            .ok_or_else(|| wrong(name, kind, value)),
        Kind::Tokens => value.extract().map(Value::Tokens),
        Kind::Sequences => value.extract().map(Value::Sequences),
        Kind::Biases => return biases(name, value),
        Kind::Record(fields) => return record(name, fields, value),
    };
    read.map_err(|error| {
        if overflows(&error, value) {
            return unknown_token(name, value);
        }
        wrong(name, kind, value)
    })
}

/// Whether the error is about an integer beyond the range of its Rust type.
fn overflows(error: &PyErr, value: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyOverflowError>(value.py())
}

/// The exception for a token id beyond any vocabulary.
fn unknown_token(name: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("{name}={} has a token id outside 0..2**32-1", shown(value)))
}

/// A dict, or pairs as JSON has them, of token ids or tuples of them with numbers.
fn biases(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let wrong = || wrong(name, Kind::Biases, value);
    let items = match value.cast::<PyDict>() {
        Ok(dict) => dict.items().into_any(),
        Err(_) => value.clone(),
    };
    let mut biases = Vec::new();
    for item in items.try_iter().map_err(|_| wrong())? {
        let (key, bias) = item?.extract::<(Bound<'_, PyAny>, f32)>().map_err(|_| wrong())?;
        let ids = key.extract::<u32>().map(|id| vec![id]);
        let ids =
            ids.or_else(|error| if overflows(&error, value) { Err(error) } else { key.extract() });
        let ids = ids.map_err(|error| {
            if overflows(&error, value) { unknown_token(name, value) } else { wrong() }
        })?;
        biases.push((ids, bias));
    }
    Ok(Value::Biases(biases))
}

/// A dict with some of the fields.
fn record(name: &str, fields: &'static [Field], value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let wrong = || wrong(name, Kind::Record(fields), value);
    let mut record = Vec::new();
    for (key, entry) in value.cast::<PyDict>().map_err(|_| wrong())? {
        let key = key.to_string();
        let field = fields.iter().find(|field| field.name == key).ok_or_else(wrong)?;
        let optional = field.default == Value::Nothing && field.kind != Kind::Sequences;
        let entry = if optional && entry.is_none() {
            Value::Nothing
        } else {
            read(&format!("{name}['{key}']"), field.kind, &entry)?
        };
        record.push((field.name, entry));
    }
    Ok(Value::Record(record))
}

/// What a parameter of a kind has to be.
fn requirement(kind: Kind) -> String {
    match kind {
        Kind::Integer => "an integer".to_owned(),
        Kind::Number => "a number".to_owned(),
        Kind::Numbers { names, required } => {
            let tuples =
                (required..=names.len()).map(|len| format!("({})", names[..len].join(", ")));
            tuples.collect::<Vec<_>>().join(" or ")
        }
        Kind::Tokens => "a sequence of token ids".to_owned(),
        Kind::Sequences => {
            "a sequence of sequences of token ids, as [[50256], [198, 198]]".to_owned()
        }
        Kind::Biases => "a dict from token ids, or tuples of them, to numbers".to_owned(),
        Kind::Record(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let (last, others) = names.split_last().unwrap_or((&"", &[]));
            format!("a dict with any of {} and {last}", others.join(", "))
        }
    }
}

/// The exception for a value of another type.
fn wrong(name: &str, kind: Kind, value: &Bound<'_, PyAny>) -> PyErr {
    refused(&format!("{name} must be {}", requirement(kind)), value)
}

/// `TypeError` for a value that is not what it must be.
pub fn refused(must: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{must}, got {}", shown(value)))
}

/// A value as Python sees it.
pub fn write<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Nothing => py.None().into_bound(py),
        Value::Integer(integer) => integer.into_pyobject(py)?.into_any(),
        Value::Number(number) => number.into_pyobject(py)?.into_any(),
        Value::Numbers(numbers) => PyTuple::new(py, numbers)?.into_any(),
        Value::Tokens(tokens) => tokens.into_pyobject(py)?,
        Value::Sequences(sequences) => sequences.into_pyobject(py)?,
        Value::Biases(biases) => biases.into_pyobject(py)?,
        Value::Record(fields) => {
            let dict = PyDict::new(py);
            for (name, value) in fields {
                dict.set_item(name, write(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

/// The table, as plain data.
pub fn table(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let rows = PyList::empty(py);
    for (stage, parameter) in fastdecode_core::parameters() {
        let row = PyDict::new(py);
        row.set_item("name", parameter.name)?;
        let stage = if stage == Stage::Processor { "processor" } else { "truncation" };
        row.set_item("stage", stage)?;
        describe(&row, parameter.kind)?;
        row.set_item("default", write(py, &parameter.default)?)?;
        row.set_item("off", write(py, &parameter.off)?)?;
        row.set_item("range", parameter.range)?;
        row.set_item("help", parameter.help)?;
        rows.append(row)?;
    }
    Ok(rows)
}

/// Adds a kind to a row of the table.
fn describe(row: &Bound<'_, PyDict>, kind: Kind) -> PyResult<()> {
    let py = row.py();
    let name = match kind {
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Numbers { .. } => "numbers",
        Kind::Tokens => "tokens",
        Kind::Sequences => "sequences",
        Kind::Biases => "biases",
        Kind::Record(_) => "record",
    };
    row.set_item("kind", name)?;
    if let Kind::Numbers { names, required } = kind {
        row.set_item("names", names)?;
        row.set_item("required", required)?;
    }
    if let Kind::Record(fields) = kind {
        let described = PyList::empty(py);
        for field in fields {
            let row = PyDict::new(py);
            row.set_item("name", field.name)?;
            describe(&row, field.kind)?;
            row.set_item("default", write(py, &field.default)?)?;
            described.append(row)?;
        }
        row.set_item("fields", described)?;
    }
    Ok(())
}

/// Adds a value to a hash; equal values add the same.
pub fn hash(value: &Value, hasher: &mut impl Hasher) {
    // Adding zero makes -0.0 hash like 0.0, which it equals.
    let bits = |number: f64| (number + 0.0).to_bits();
    match value {
        Value::Nothing => {}
        Value::Integer(integer) => integer.hash(hasher),
        Value::Number(number) => bits(*number).hash(hasher),
        Value::Numbers(numbers) => numbers.iter().for_each(|&x| bits(x).hash(hasher)),
        Value::Tokens(tokens) => tokens.hash(hasher),
        Value::Sequences(sequences) => sequences.hash(hasher),
        Value::Biases(biases) => biases.iter().for_each(|(ids, bias)| {
            ids.hash(hasher);
            bits(f64::from(*bias)).hash(hasher);
        }),
        Value::Record(fields) => fields.iter().for_each(|(_, value)| self::hash(value, hasher)),
    }
}
