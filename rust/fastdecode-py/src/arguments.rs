//! Python values as Rust ones, refused by messages that name the argument, the value and the fix.
//!
//! The functions of the module take their arguments as any Python object and convert them here:
//! PyO3's own conversion would put the argument's name into a note of the exception.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;

use fastdecode_simd::memory;
use numpy::{Element, PyArray1, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::PyClass;
use pyo3::exceptions::{
    PyException, PyIndexError, PyMemoryError, PyOverflowError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyIterator, PyList,
    PyMemoryView, PySet, PyString, PyTuple,
};

use crate::errors::exception;

/// The most characters of a value that a message shows.
const SHOWN: usize = 80;

/// The name of an argument, or of an entry of one.
#[derive(Clone, Copy)]
pub enum Name<'a> {
    Argument(&'a str),
    Entry(&'a Name<'a>, usize),
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => f.write_str(name),
            Self::Entry(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A Rust type that a Python value can be converted to.
pub trait Argument: Sized {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self>;

    /// What the entries of a sequence of such values are called.
    fn plural() -> String;

    /// The entries of a NumPy array whose elements are of this very type.
    fn array(_value: &Bound<'_, PyAny>) -> Option<PyResult<Vec<Self>>> {
        None
    }

    /// The entries of a list of Python's own numbers of the right type: without names, which a
    /// refusal would need, that is faster.
    fn all(_value: &Bound<'_, PyAny>) -> Option<Vec<Self>> {
        None
    }
}

/// The argument as a `T`.
pub fn read<T: Argument>(value: &Bound<'_, PyAny>, name: &str) -> PyResult<T> {
    T::read(value, Name::Argument(name))
}

/// The argument as a `T`, or None where it was left out.
pub fn optional<T: Argument>(value: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<Option<T>> {
    value.map(|value| read(value, name)).transpose()
}

/// The argument as an instance of one of the module's classes.
pub fn instance<'a, 'py, T: PyClass>(
    value: &'a Bound<'py, PyAny>,
    name: &str,
) -> PyResult<&'a Bound<'py, T>> {
    value.cast().map_err(|_| {
        let class = value.py().get_type::<T>();
        let expected =
            class.name().map_or_else(|_| "of its class".to_owned(), |n| format!("a {n}"));
        wrong_type(value, name, &expected)
    })
}

/// The argument, which has to be a function.
pub fn function<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    name: &str,
) -> PyResult<&'a Bound<'py, PyAny>> {
    if value.is_callable() {
        return Ok(value);
    }
    Err(wrong_type(value, name, "a function"))
}

/// An argument that has a default other than None: without this type PyO3 could not tell an
/// explicit None, which is refused, from an argument that was left out.
#[derive(Clone, Copy)]
pub struct Given<'a, 'py>(Option<Borrowed<'a, 'py, PyAny>>);

impl Given<'_, '_> {
    pub const DEFAULT: Self = Given(None);

    /// The argument as a `T`.
    pub fn or<T: Argument>(self, name: &str, default: T) -> PyResult<T> {
        self.0.as_deref().map_or(Ok(default), |value| read(value, name))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'a, 'py> {
    type Error = Infallible;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(Some(value)))
    }
}

macro_rules! integer {
    ($type:ty, $range:literal) => {
        impl Argument for $type {
            fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
                if !value.is_exact_instance_of::<PyInt>() && !is_single(value, &["int"])? {
                    return Err(wrong_type(value, name, "an integer"));
                }
                value.extract().map_err(|error| refused(value, name, "an integer", $range, error))
            }

            fn plural() -> String {
                "integers".to_owned()
            }

            fn array(value: &Bound<'_, PyAny>) -> Option<PyResult<Vec<Self>>> {
                whole_array(value).map(entries)
            }

            fn all(value: &Bound<'_, PyAny>) -> Option<Vec<Self>> {
                listed(value, |entry| {
                    if entry.is_exact_instance_of::<PyInt>() { entry.extract().ok() } else { None }
                })
            }
        }
    };
}

/// The entries of a list, if `read` can read each.
fn listed<T>(
    value: &Bound<'_, PyAny>,
    read: impl Fn(Bound<'_, PyAny>) -> Option<T>,
) -> Option<Vec<T>> {
    let list = value.cast::<PyList>().ok()?;
    // Where there is no memory for it, reading one by one says so.
    let mut entries = memory::with_room(list.len()).ok()?;
    for entry in list {
        entries.push(read(entry)?);
    }
    Some(entries)
}

integer!(i64, "-2**63..2**63-1");
integer!(u32, "0..2**32-1");
integer!(usize, "0..2**64-1");

impl Argument for f64 {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
        let expected = "a number";
        if !value.is_exact_instance_of::<PyFloat>() && !is_single(value, &["int", "float"])? {
            return Err(wrong_type(value, name, expected));
        }
        let range = "the range of float64";
        value.extract().map_err(|error| refused(value, name, expected, range, error))
    }

    fn plural() -> String {
        "numbers".to_owned()
    }

    fn array(value: &Bound<'_, PyAny>) -> Option<PyResult<Vec<Self>>> {
        whole_array(value).map(entries)
    }

    fn all(value: &Bound<'_, PyAny>) -> Option<Vec<Self>> {
        listed(value, |entry| {
            if entry.is_exact_instance_of::<PyFloat>() { entry.extract().ok() } else { None }
        })
    }
}

/// Whether a value may be a single number. A bool is none, although Python's are integers; nor is
/// what has a type of elements, as the values of NumPy and torch have, if that is none of `kinds`
/// or there are several of them: the only entry of an array and the real part of a complex number
/// would be taken silently.
fn is_single(value: &Bound<'_, PyAny>, kinds: &[&str]) -> PyResult<bool> {
    if value.is_instance_of::<PyBool>() {
        return Ok(false);
    }
    let Some(dtype) = value.getattr_opt("dtype")? else { return Ok(true) };
    let dtype = dtype.str()?;
    let dtype = dtype.to_string_lossy();
    Ok(kinds.iter().any(|kind| dtype.contains(kind)) && has_no_axes(value)?)
}

/// Whether a value is an array without axes, or one of NumPy's scalars and records.
fn has_no_axes(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(shape) = value.getattr_opt("shape")? else { return Ok(false) };
    Ok(shape.len().is_ok_and(|axes| axes == 0))
}

impl Argument for bool {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
        value.extract().map_err(|_| wrong_type(value, name, "True or False"))
    }

    fn plural() -> String {
        "bools".to_owned()
    }
}

impl Argument for String {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
        value.extract().map_err(|_| wrong_type(value, name, "a string"))
    }

    fn plural() -> String {
        "strings".to_owned()
    }
}

impl Argument for PathBuf {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
        let path: Self =
            value.extract().map_err(|_| wrong_type(value, name, "a string or a path"))?;
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(PyValueError::new_err(format!(
                "{name}={} has a NUL character, which no path can have",
                shown(value)
            )));
        }
        Ok(path)
    }

    fn plural() -> String {
        "paths".to_owned()
    }
}

impl<T: Argument> Argument for Option<T> {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { T::read(value, name).map(Some) }
    }

    fn plural() -> String {
        format!("{} or None", T::plural())
    }
}

impl<T: Argument> Argument for Vec<T> {
    fn read(value: &Bound<'_, PyAny>, name: Name<'_>) -> PyResult<Self> {
        let expected = || format!("a sequence of {}", T::plural());
        // A cast to an array imports NumPy, which takes longer than all else that the help needs.
        if !(value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>()) {
            if let Some(entries) = T::array(value) {
                return entries;
            }
        } else if let Some(entries) = T::all(value) {
            return Ok(entries);
        }
        let entries = sequence(value, name, &expected())?;
        let mut values = memory::with_room(entries.len()).map_err(exception)?;
        for (index, entry) in entries.iter().enumerate() {
            values.push(T::read(entry, Name::Entry(&name, index))?);
        }
        Ok(values)
    }

    fn plural() -> String {
        format!("sequences of {}", T::plural())
    }
}

/// The entries of a sequence. Bytes are none here, nor are NumPy's records, although both can be
/// indexed.
fn sequence<'py>(
    value: &Bound<'py, PyAny>,
    name: Name<'_>,
    expected: &str,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let plain = value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>();
    if !plain && (is_bytes(value) || has_no_axes(value)?) {
        return Err(wrong_type(value, name, expected));
    }
    value.extract().map_err(|error| refused(value, name, expected, "", error))
}

/// The exception for a value that PyO3 could not convert.
fn refused(
    value: &Bound<'_, PyAny>,
    name: Name<'_>,
    expected: &str,
    range: &str,
    error: PyErr,
) -> PyErr {
    let py = value.py();
    if error.is_instance_of::<PyMemoryError>(py) {
        error
    } else if error.is_instance_of::<PyOverflowError>(py) {
        PyValueError::new_err(format!("{name}={} is outside {range}", shown_number(value)))
    } else if error.is_instance_of::<PyException>(py) {
        wrong_type(value, name, expected)
    } else {
        // KeyboardInterrupt and the like are not about the value.
        error
    }
}

/// The exception for a value of another type.
pub fn wrong_type(value: &Bound<'_, PyAny>, name: impl fmt::Display, expected: &str) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |kind| kind.to_string());
    PyTypeError::new_err(format!("{name} must be {expected}, got {} of type {kind}", shown(value)))
}

/// A value as messages show it, on one line.
pub fn shown(value: &Bound<'_, PyAny>) -> String {
    let Ok(repr) = value.repr() else {
        let kind = value.get_type().name();
        return kind.map_or_else(|_| "<?>".to_owned(), |kind| format!("<{kind}>"));
    };
    let repr = repr.to_string_lossy();
    cut(repr.lines().map(str::trim_start).collect::<Vec<_>>().join(" "))
}

/// A text without what a message has no room for.
pub fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A number as messages show it: those of NumPy without the name of their type.
fn shown_number(value: &Bound<'_, PyAny>) -> String {
    value.call_method0("__index__").map_or_else(|_| shown(value), |index| shown(&index))
}

/// An integer in `0..=max`; anything with `__index__` but a bool counts as one.
fn unsigned(value: &Bound<'_, PyAny>, name: Name<'_>, max: u64) -> PyResult<u64> {
    let whole = value.is_exact_instance_of::<PyInt>() || is_single(value, &["int"])?;
    if !whole || !value.hasattr("__index__")? {
        return Err(wrong_type(value, name, "an integer"));
    }
    let bits = 64 - max.leading_zeros();
    let range = || format!("0..2**{bits}-1");
    let number: u64 =
        value.extract().map_err(|error| refused(value, name, "an integer", &range(), error))?;
    if number <= max {
        return Ok(number);
    }
    Err(PyValueError::new_err(format!("{name}={number} is outside {}", range())))
}

/// The seed of a run.
pub fn seed(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    unsigned(value, Name::Argument("seed"), u64::MAX)
}

/// A stream, sample, position or count.
pub fn word(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u32> {
    Ok(unsigned(value, Name::Argument(name), u32::MAX.into())? as u32)
}

/// An index of one of `count` things.
pub fn index(value: &Bound<'_, PyAny>, name: &str, count: usize) -> PyResult<usize> {
    index_of(value, Name::Argument(name), count)
}

/// Indices of some of `count` things, from a sequence.
pub fn indices(value: &Bound<'_, PyAny>, name: &str, count: usize) -> PyResult<Vec<usize>> {
    let name = Name::Argument(name);
    let entries = sequence(value, name, "a sequence of integers")?;
    let read = |(index, entry)| index_of(entry, Name::Entry(&name, index), count);
    entries.iter().enumerate().map(read).collect()
}

fn index_of(value: &Bound<'_, PyAny>, name: Name<'_>, count: usize) -> PyResult<usize> {
    let outside = || {
        let last = count.saturating_sub(1);
        PyIndexError::new_err(format!("{name}={} is outside 0..{last}", shown_number(value)))
    };
    match usize::read(value, name) {
        Ok(index) if index < count => Ok(index),
        Ok(_) => Err(outside()),
        Err(error) if error.is_instance_of::<PyValueError>(value.py()) => Err(outside()),
        Err(error) => Err(error),
    }
}

/// The things that an argument has one entry for each of.
#[derive(Clone, Copy)]
pub struct Each {
    pub count: usize,
    plural: &'static str,
    singular: &'static str,
}

impl Each {
    pub fn row(count: usize) -> Self {
        Self { count, plural: "rows of logits", singular: "row" }
    }

    pub fn prompt(count: usize) -> Self {
        Self { count, plural: "prompts", singular: "prompt" }
    }

    pub fn sequence(count: usize) -> Self {
        Self { count, plural: "sequences", singular: "sequence" }
    }

    /// Refuses another number of entries.
    pub fn check(self, got: usize, name: &str) -> PyResult<()> {
        let Self { count, plural, singular } = self;
        if got == count {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "{name} has {got} entries for {count} {plural}; give one a {singular}"
        )))
    }
}

/// One value for each, from a sequence.
pub fn values<T: Argument>(value: &Bound<'_, PyAny>, name: &str, each: Each) -> PyResult<Vec<T>> {
    let values: Vec<T> = read(value, name)?;
    each.check(values.len(), name)?;
    Ok(values)
}

/// One word for each: from nothing (`default`), one integer for all, or an iterable.
pub fn words(
    value: Option<&Bound<'_, PyAny>>,
    name: &str,
    each: Each,
    default: impl Fn(usize) -> u32,
) -> PyResult<Vec<u32>> {
    let Some(value) = value else {
        return memory::collect((0..each.count).map(default)).map_err(exception);
    };
    let words = if let Some(words) = u32::array(value) {
        words?
    } else if value.hasattr("__index__")? && !value.hasattr("__len__")? {
        return memory::filled(word(value, name)?, each.count).map_err(exception);
    } else {
        let name = Name::Argument(name);
        let expected = "an integer or a sequence of integers";
        let mut words = memory::with_room(each.count).map_err(exception)?;
        for (index, entry) in iterated(value, name, expected)?.enumerate() {
            let word = unsigned(&entry?, Name::Entry(&name, index), u32::MAX.into())?;
            words.push(word as u32);
        }
        words
    };
    each.check(words.len(), name)?;
    Ok(words)
}

/// Token ids for each, from an iterable of sequences.
pub fn token_lists(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<Vec<u32>>> {
    let name = Name::Argument(name);
    let read = |(index, entry): (usize, PyResult<Bound<'_, PyAny>>)| {
        Vec::read(&entry?, Name::Entry(&name, index))
    };
    let entries = iterated(value, name, "a sequence of token ids for each row")?;
    entries.enumerate().map(read).collect()
}

/// The entries of an iterable, in the caller's order: a set has none, the keys of a dict are rarely
/// meant, and the parts of text and of bytes are characters.
fn iterated<'py>(
    value: &Bound<'py, PyAny>,
    name: Name<'_>,
    expected: &str,
) -> PyResult<Bound<'py, PyIterator>> {
    let unordered = value.is_instance_of::<PySet>()
        || value.is_instance_of::<PyFrozenSet>()
        || value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyString>();
    if unordered || is_bytes(value) {
        return Err(wrong_type(value, name, expected));
    }
    value.try_iter().map_err(|_| wrong_type(value, name, expected))
}

/// Whether the entries of a value are bytes, which are integers by accident.
fn is_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMemoryView>()
}

/// An array of these elements, all of which count: none of them is masked.
fn whole_array<'a, 'py, T: Element>(
    value: &'a Bound<'py, PyAny>,
) -> Option<&'a Bound<'py, PyArray1<T>>> {
    let array = value.cast::<PyArray1<T>>().ok()?;
    if is_masked(array.as_any()) { None } else { Some(array) }
}

/// Whether an array has a mask, as those of `numpy.ma` have, behind which its elements are not meant.
pub fn is_masked(array: &Bound<'_, PyAny>) -> bool {
    !array.is_exact_instance_of::<PyUntypedArray>() && array.hasattr("mask").unwrap_or(false)
}

/// The entries of an array, wherever they lie.
fn entries<T: Element + Copy>(array: &Bound<'_, PyArray1<T>>) -> PyResult<Vec<T>> {
    if array.is_aligned() {
        return copied(array);
    }
    // A Rust view needs aligned elements.
    let copy = array.call_method0("copy")?;
    copied(copy.cast()?)
}

fn copied<T: Element + Copy>(array: &Bound<'_, PyArray1<T>>) -> PyResult<Vec<T>> {
    memory::collect(array.try_readonly()?.as_array().iter().copied()).map_err(exception)
}
