//! Values of parameters, between Python and the core's table.

use std::hash::{Hash, Hasher};

use fastdecode_core::parameter::{Field, Kind, Parameter, Value};
use fastdecode_core::{PipelineParams, Stage};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

use crate::arguments::{self, Argument, shown};

/// Sets a parameter to what a caller gives.
///
/// # Errors
/// `TypeError` for a value of another type, and `ValueError` for a number that is out of range,
/// both of which name the parameter.
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
    match kind {
        Kind::Flag => arguments::read(value, name).map(Value::Flag),
        Kind::Integer => arguments::read(value, name).map(Value::Integer),
        Kind::Number => arguments::read(value, name).map(Value::Number),
        Kind::Numbers { names, required } => {
            let numbers: Vec<f64> = of_kind(name, kind, value)?;
            if !(required..=names.len()).contains(&numbers.len()) {
                return Err(wrong(name, kind, value));
            }
            Ok(Value::Numbers(numbers))
        }
        Kind::Tokens => tokens(name, &requirement(kind), value).map(Value::Tokens),
        Kind::Sequences => ids(name, &requirement(kind), value, value).map(Value::Sequences),
        Kind::Biases => biases(name, value),
        Kind::Record(fields) => record(name, fields, value),
    }
}

/// A parameter's value as a `T`. Its entries are refused by the name and the requirement of the
/// whole, except for numbers that are out of range.
fn of_kind<T: Argument>(name: &str, kind: Kind, value: &Bound<'_, PyAny>) -> PyResult<T> {
    arguments::read(value, name).map_err(|error| {
        if is_type_error(&error, value) { wrong(name, kind, value) } else { error }
    })
}

fn is_type_error(error: &PyErr, value: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyTypeError>(value.py())
}

/// Token ids, which `must` describes.
///
/// # Errors
/// `TypeError` for what are no token ids, `ValueError` for ids beyond any vocabulary.
pub fn tokens(name: &str, must: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    ids(name, must, value, value)
}

/// Token ids in a `part` of a parameter's `value`, which a refusal shows as a whole.
fn ids<T: Argument>(
    name: &str,
    must: &str,
    part: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<T> {
    arguments::read(part, name).map_err(|error| {
        if is_type_error(&error, value) {
            not_ids(name, must, value)
        } else if error.is_instance_of::<PyValueError>(value.py()) {
            PyValueError::new_err(format!(
                "{name}={} has a token id outside 0..2**32-1",
                shown(value)
            ))
        } else {
            error
        }
    })
}

/// A dict, or pairs as JSON has them, of token ids or sequences of them with numbers.
fn biases(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let wrong = || wrong(name, Kind::Biases, value);
    let must = requirement(Kind::Biases);
    let items = match value.cast::<PyDict>() {
        Ok(dict) => dict.items().into_any(),
        Err(_) => value.clone(),
    };
    if items.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    let mut biases = Vec::new();
    for item in items.try_iter().map_err(|_| wrong())? {
        let pair: Vec<Bound<'_, PyAny>> = item?.extract().map_err(|_| wrong())?;
        let [key, bias] = pair.try_into().map_err(|_| wrong())?;
        let single = key.hasattr("__index__")? && !key.hasattr("__len__")?;
        let tokens = if single {
            vec![ids(name, &must, &key, value)?]
        } else {
            ids(name, &must, &key, value)?
        };
        let bias: f64 = arguments::read(&bias, name)
            .map_err(|error| if is_type_error(&error, value) { wrong() } else { error })?;
        biases.push((tokens, bias as f32));
    }
    Ok(Value::Biases(biases))
}

/// A dict with some of the fields.
fn record(name: &str, fields: &'static [Field], value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let wrong = || wrong(name, Kind::Record(fields), value);
    let mut record = Vec::new();
    for (key, entry) in value.cast::<PyDict>().map_err(|_| wrong())? {
        let field = match key.extract::<String>() {
            Ok(key) => fields.iter().find(|field| field.name == key),
            Err(_) => None,
        };
        let field = field.ok_or_else(wrong)?;
        let optional = field.default == Value::Nothing && field.kind != Kind::Sequences;
        let entry = if optional && entry.is_none() {
            Value::Nothing
        } else {
            read(&format!("{name}['{}']", field.name), field.kind, &entry)?
        };
        record.push((field.name, entry));
    }
    Ok(Value::Record(record))
}

/// What a parameter of a kind has to be.
fn requirement(kind: Kind) -> String {
    match kind {
        Kind::Flag => "True or False".to_owned(),
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
    let must = requirement(kind);
    match kind {
        Kind::Tokens | Kind::Sequences | Kind::Biases => not_ids(name, &must, value),
        _ => PyTypeError::new_err(format!("{name} must be {must}, got {}", shown(value))),
    }
}

/// The exception for a value that has no token ids where `must` asks for them.
fn not_ids(name: &str, must: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let hint = if has_text(value, 2) {
        "; a decoder's tokens(text).ids are the token ids of a text"
    } else if name == "allowed" && value.is_callable() {
        "; a function restricts a beam search: Beam(num_beams, allowed=...)"
    } else {
        ""
    };
    PyTypeError::new_err(format!("{name} must be {must}, got {}{hint}", shown(value)))
}

/// Whether a value is text, or its first entry is, down to this depth.
fn has_text(value: &Bound<'_, PyAny>, depth: usize) -> bool {
    if value.is_instance_of::<PyString>() {
        return true;
    }
    let container = value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>();
    let first = || value.try_iter().ok()?.next()?.ok();
    depth > 0 && container && first().is_some_and(|entry| has_text(&entry, depth - 1))
}

/// A value as Python sees it.
pub fn write<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Nothing => py.None().into_bound(py),
        Value::Flag(flag) => PyBool::new(py, *flag).to_owned().into_any(),
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
        Kind::Flag => "flag",
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
        Value::Flag(flag) => flag.hash(hasher),
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
