//! The functions of `fastdecode.core`.

use fastdecode_core::{Key, Level, Logits, Pipeline, Request, Workspace, philox, queries};
use fastdecode_simd::memory;
use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{self, Each, Given};
use crate::borrow::Borrowed;
use crate::draws::Draws;
use crate::errors::{detached, exception};
use crate::requests::{Keys, Past, Requests};

/// One value or row of values for each row of logits, as an array; it has a batch axis if the logits
/// had one.
fn shaped<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    single: bool,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let shape = if single { &shape[1..] } else { shape };
    PyArray1::from_vec(py, values).reshape(shape)
}

/// The likeliest token of each row, ties to the lower id.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
///
/// Returns
/// -------
/// int64 array, () or (batch,)
#[pyfunction]
pub fn argmax<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    let level = Level::detect();
    let ids = detached(py, || {
        logits.map(|_, row, workspace| Ok(i64::from(queries::argmax(level, row, workspace)?)))
    })?;
    shaped(py, ids, array.single, &[logits.rows])
}

/// The k likeliest tokens of each row, likeliest first, ties to the lower id.
///
/// The result is exact, and the row is not sorted. Unlike transformers' top-k filter, it has exactly
/// k tokens where logits tie at the border.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
/// k : int
///     Between 1 and the vocabulary size.
///
/// Returns
/// -------
/// (values, indices) : float32 and int64 arrays, (k,) or (batch, k)
#[pyfunction]
#[expect(clippy::type_complexity, reason = "two arrays, as torch.topk gives them")]
pub fn top_k<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    k: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArrayDyn<i64>>)> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    let level = Level::detect();
    let k: i64 = arguments::read(k, "k")?;
    let rows =
        detached(py, || logits.map(|_, row, workspace| queries::top_k(level, row, k, workspace)))?;
    let size = rows.iter().map(Vec::len).sum();
    let mut values = memory::with_room(size).map_err(exception)?;
    values.extend(rows.iter().flatten().map(|c| c.logit));
    let mut ids = memory::with_room(size).map_err(exception)?;
    ids.extend(rows.iter().flatten().map(|c| i64::from(c.id)));
    let shape = [logits.rows, k as usize];
    Ok((shaped(py, values, array.single, &shape)?, shaped(py, ids, array.single, &shape)?))
}

/// The probabilities that `sample` draws from, exactly: weight over total weight.
///
/// Within 1e-6 in total variation of the softmax of the logits after the same truncation.
/// The other arguments are those of `sample`; a seed is needed only where the law depends on it
/// (xtc).
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
/// params : Sample or sequence of Sample, optional
///
/// Returns
/// -------
/// float64 array, of the shape of the logits
#[pyfunction]
#[pyo3(signature = (
    logits, params=None, *, seed=None, streams=None, samples=None, positions=None,
    histories=None, prompt_lengths=None, mus=None,
))]
#[expect(clippy::too_many_arguments, reason = "the arguments of `sample`")]
pub fn distribution<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    params: Option<&Bound<'py, PyAny>>,
    seed: Option<&Bound<'py, PyAny>>,
    streams: Option<&Bound<'py, PyAny>>,
    samples: Option<&Bound<'py, PyAny>>,
    positions: Option<&Bound<'py, PyAny>>,
    histories: Option<&Bound<'py, PyAny>>,
    prompt_lengths: Option<&Bound<'py, PyAny>>,
    mus: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    let keys = Keys { seed, streams, samples, positions };
    let past = Past { histories, prompt_lengths, mus };
    per_law(py, logits, params, &keys, &past, Pipeline::distribution)
}

/// The law itself: a non-negative integer for each token, 2**42 for the likeliest, 0 for a token
/// that was cut.
///
/// A token is drawn with probability weight / sum(weights), exactly: it is the first, by id, at
/// which the running sum exceeds a uniform integer below the total.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
/// params : Sample or sequence of Sample, optional
///
/// Returns
/// -------
/// uint64 array, of the shape of the logits
#[pyfunction]
#[pyo3(signature = (
    logits, params=None, *, seed=None, streams=None, samples=None, positions=None,
    histories=None, prompt_lengths=None, mus=None,
))]
#[expect(clippy::too_many_arguments, reason = "the arguments of `sample`")]
pub fn weights<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    params: Option<&Bound<'py, PyAny>>,
    seed: Option<&Bound<'py, PyAny>>,
    streams: Option<&Bound<'py, PyAny>>,
    samples: Option<&Bound<'py, PyAny>>,
    positions: Option<&Bound<'py, PyAny>>,
    histories: Option<&Bound<'py, PyAny>>,
    prompt_lengths: Option<&Bound<'py, PyAny>>,
    mus: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArrayDyn<u64>>> {
    let keys = Keys { seed, streams, samples, positions };
    let past = Past { histories, prompt_lengths, mus };
    per_law(py, logits, params, &keys, &past, Pipeline::weights)
}

/// ln of every token's probability, in nats; -inf for a banned token.
///
/// The same bits on every machine; within 1e-6 of the exact value.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
///
/// Returns
/// -------
/// float64 array, of the shape of the logits
#[pyfunction]
pub fn log_softmax<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    let level = Level::detect();
    per_token(py, logits, |row, workspace| queries::log_softmax(level, row, workspace))
}

/// Refuses what no machine has memory for: a value for each token of each row, twice while the rows
/// become one array.
fn admit_of_each<T>(logits: &Logits<'_>) -> PyResult<()> {
    let bytes = logits.vocabulary.saturating_mul(2 * size_of::<T>());
    memory::admit(bytes.saturating_mul(logits.rows)).map_err(exception)
}

/// A value for each token of each row, from the law that the row's token is drawn from.
fn per_law<'py, T: Element + Clone + Send>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    params: Option<&Bound<'py, PyAny>>,
    keys: &Keys<'_, 'py>,
    past: &Past<'_, 'py>,
    of: impl Fn(&Pipeline, &[f32], Request<'_>, &mut Workspace) -> fastdecode_core::Result<Vec<T>>
    + Sync,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    admit_of_each::<T>(&logits)?;
    let requests = Requests::new(logits.rows, params, keys, past)?;
    let rows = detached(py, || {
        logits.map(|index, row, workspace| {
            of(requests.pipeline(index), row, requests.request(index), workspace)
        })
    })?;
    shaped(
        py,
        memory::concat(rows).map_err(exception)?,
        array.single,
        &[logits.rows, logits.vocabulary],
    )
}

/// A value for each token of each row.
fn per_token<'py, T: Element + Clone + Send>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    work: impl Fn(&[f32], &mut Workspace) -> fastdecode_core::Result<Vec<T>> + Sync + Send,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    admit_of_each::<T>(&logits)?;
    let rows = detached(py, || logits.map(|_, row, workspace| work(row, workspace)))?;
    shaped(
        py,
        memory::concat(rows).map_err(exception)?,
        array.single,
        &[logits.rows, logits.vocabulary],
    )
}

/// Draw one token for each row.
///
/// A row's token depends on the row, the parameters and (seed, stream, sample, position) alone.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
/// params : Sample or sequence of Sample, optional
///     For all rows, or one per row; by default the model's own distribution.
/// seed : int
///     0..2**64-1.
/// streams, samples, positions : int or sequence of int, optional
///     0..2**32-1, for all rows or one per row. By default the row's index, 0 and 0.
/// histories : sequence of sequences of int, optional
///     The token ids of each row's prompt and text so far, for parameters that depend on them.
/// prompt_lengths : int or sequence of int, optional
///     The number of tokens in each history that belong to the prompt; min_new_tokens counts the
///     others. By default all.
/// mus : sequence of float, optional
///     Mirostat's state, from `Draws.mus` of the previous step; NaN (the default) at the start.
/// ledger : bool, default False
///     Also record the numbers that led to each token: see `Draws`.
/// alternatives : int, default 0
///     The number of the model's likeliest tokens to record; above 0 it turns on the ledger.
///
/// Returns
/// -------
/// Draws
///
/// Raises
/// ------
/// ValueError
///     NaN or +inf, a row without a finite entry, a wrong rank, or an argument out of range.
/// TypeError
///     Logits of another dtype, or an argument that is no integer.
#[pyfunction]
#[pyo3(signature = (
    logits, params=None, *, seed, streams=None, samples=None, positions=None,
    histories=None, prompt_lengths=None, mus=None, ledger=Given::DEFAULT, alternatives=None,
), text_signature = "(logits, params=None, *, seed, streams=None, samples=None, positions=None, \
    histories=None, prompt_lengths=None, mus=None, ledger=False, alternatives=None)")]
#[expect(clippy::too_many_arguments, reason = "by keyword in Python")]
pub fn sample<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    params: Option<&Bound<'py, PyAny>>,
    seed: &Bound<'py, PyAny>,
    streams: Option<&Bound<'py, PyAny>>,
    samples: Option<&Bound<'py, PyAny>>,
    positions: Option<&Bound<'py, PyAny>>,
    histories: Option<&Bound<'py, PyAny>>,
    prompt_lengths: Option<&Bound<'py, PyAny>>,
    mus: Option<&Bound<'py, PyAny>>,
    ledger: Given<'_, 'py>,
    alternatives: Option<&Bound<'py, PyAny>>,
) -> PyResult<Draws> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    let keys = Keys { seed: Some(seed), streams, samples, positions };
    let past = Past { histories, prompt_lengths, mus };
    let requests = Requests::new(logits.rows, params, &keys, &past)?;
    let ledger = ledger.or("ledger", false)?;
    let count = alternatives.map_or(Ok(0), |value| arguments::word(value, "alternatives"))?;
    let noting = (ledger || count > 0).then_some(count as usize);
    let rows = detached(py, || {
        logits.map(|index, row, workspace| {
            let request = requests.request(index);
            requests.pipeline(index).sample_noting(row, request, noting, workspace)
        })
    })?;
    Ok(Draws { rows, noted: noting.is_some() })
}

/// Draw `num_samples` tokens for each row: those that `sample` draws for samples 0, 1, ...
///
/// Without replacement, the i-th token is drawn, with sample i's key, from the law without the
/// tokens drawn before it: the distribution of Gumbel-top-k (Kool et al., 2019), in exact integers.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
/// num_samples : int
/// params : Sample or sequence of Sample, optional
/// replacement : bool, default True
/// seed : int
///     0..2**64-1.
/// streams, positions, histories, prompt_lengths : optional
///     As for `sample`.
///
/// Returns
/// -------
/// int64 array, (num_samples,) or (batch, num_samples)
#[pyfunction]
#[pyo3(signature = (
    logits, num_samples, params=None, *, replacement=Given::DEFAULT, seed, streams=None,
    positions=None, histories=None, prompt_lengths=None,
), text_signature = "(logits, num_samples, params=None, *, replacement=True, seed, streams=None, \
    positions=None, histories=None, prompt_lengths=None)")]
#[expect(clippy::too_many_arguments, reason = "by keyword in Python")]
pub fn multinomial<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    num_samples: &Bound<'py, PyAny>,
    params: Option<&Bound<'py, PyAny>>,
    replacement: Given<'_, 'py>,
    seed: &Bound<'py, PyAny>,
    streams: Option<&Bound<'py, PyAny>>,
    positions: Option<&Bound<'py, PyAny>>,
    histories: Option<&Bound<'py, PyAny>>,
    prompt_lengths: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    let count = arguments::word(num_samples, "num_samples")? as usize;
    let keys = Keys { seed: Some(seed), streams, positions, samples: None };
    let past = Past { histories, prompt_lengths, mus: None };
    let requests = Requests::new(logits.rows, params, &keys, &past)?;
    let replacement = replacement.or("replacement", true)?;
    // The tokens of all rows, and then the array of them.
    let bytes = (size_of::<u32>() + size_of::<i64>()).saturating_mul(count);
    memory::admit(bytes.saturating_mul(logits.rows)).map_err(exception)?;
    let of = if replacement { Pipeline::sample_many } else { Pipeline::sample_distinct };
    let rows = detached(py, || {
        logits.map(|index, row, workspace| {
            of(requests.pipeline(index), row, requests.request(index), count, workspace)
        })
    })?;
    let mut tokens = memory::with_room(logits.rows * count).map_err(exception)?;
    tokens.extend(rows.into_iter().flatten().map(i64::from));
    shaped(py, tokens, array.single, &[logits.rows, count])
}

/// The uniform number of a draw in [0, 1), to follow the draw by hand.
///
/// The token drawn is the one whose interval of the cumulative distribution, by id, contains it. It
/// has the top 53 bits of what the draw itself uses, an integer: see `Draws.tickets`.
#[pyfunction]
#[pyo3(signature = (seed, stream=None, sample=None, position=None))]
pub fn uniform(
    seed: &Bound<'_, PyAny>,
    stream: Option<&Bound<'_, PyAny>>,
    sample: Option<&Bound<'_, PyAny>>,
    position: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    let word = |value: Option<&Bound<'_, PyAny>>, name| {
        value.map_or(Ok(0), |value| arguments::word(value, name))
    };
    let key = Key {
        seed: arguments::seed(seed)?,
        stream: word(stream, "stream")?,
        sample: word(sample, "sample")?,
        position: word(position, "position")?,
    };
    Ok(key.uniform())
}

/// ln of the sum of the exponentials of each row, in nats.
///
/// The same bits on every machine; within 1e-6 of the exact value.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
///
/// Returns
/// -------
/// float64 array, () or (batch,)
#[pyfunction]
pub fn logsumexp<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    let level = Level::detect();
    let sums =
        detached(py, || logits.map(|_, row, workspace| queries::logsumexp(level, row, workspace)))?;
    shaped(py, sums, array.single, &[logits.rows])
}

/// ln of one token's probability in each row, in nats.
///
/// Parameters
/// ----------
/// logits : array or tensor, (vocab,) or (batch, vocab)
/// tokens : sequence of int, one per row
///
/// Returns
/// -------
/// float64 array, (batch,)
#[pyfunction]
pub fn token_logprobs<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    tokens: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let array = Borrowed::new(logits)?;
    let logits = array.logits();
    let level = Level::detect();
    let tokens: Vec<i64> = arguments::values(tokens, "tokens", Each::row(logits.rows))?;
    let values = detached(py, || {
        logits.map(|index, row, workspace| {
            queries::token_logprob(level, row, tokens[index], workspace)
        })
    })?;
    Ok(PyArray1::from_vec(py, values))
}

/// Refuse a number of bytes that this process cannot have at once: more than the memory of the
/// machine, of its control group, or of its address space (RLIMIT_AS).
///
/// Raises
/// ------
/// MemoryError
#[pyfunction]
pub fn check_memory(bytes: &Bound<'_, PyAny>) -> PyResult<()> {
    memory::admit(arguments::read(bytes, "bytes")?).map_err(exception)
}

/// Refuse a number of bytes that the system would not give now.
///
/// For calls of other libraries that end the process where they are refused memory.
///
/// Raises
/// ------
/// MemoryError
#[pyfunction]
pub fn probe_memory(bytes: &Bound<'_, PyAny>) -> PyResult<()> {
    memory::probe(arguments::read(bytes, "bytes")?).map_err(exception)
}

/// One block of the generator: Philox4x32-10 (Salmon et al., SC 2011).
#[pyfunction]
pub fn philox4x32(
    counter: &Bound<'_, PyAny>,
    key: &Bound<'_, PyAny>,
) -> PyResult<(u32, u32, u32, u32)> {
    Ok(philox::philox4x32(block(counter, "counter")?, block(key, "key")?).into())
}

/// Exactly `N` words.
fn block<const N: usize>(value: &Bound<'_, PyAny>, name: &str) -> PyResult<[u32; N]> {
    let words: Vec<u32> = arguments::read(value, name)?;
    let got = words.len();
    words
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("{name} has {got} entries; give {N}")))
}
