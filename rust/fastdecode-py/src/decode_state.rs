//! `DecodeState`: sequences that take their tokens step by step.

use std::sync::Arc;

use fastdecode_core::Ledger;
use fastdecode_core::decode_state::{
    Choice, DecodeState as Core, Drawn, FinishReason, Limit, Noting, Rows, Sequence, SequenceParams,
};
use fastdecode_simd::{in_default_float_mode, memory};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::{self, Each, Given, cut};
use crate::borrow::Borrowed;
use crate::errors::{detached, exception, object};
use crate::params::Sample;
use crate::requests::model_itself;

/// Sequences that step together, each with everything that its next token depends on besides the
/// logits: parameters, seed, stream, sample, history, limit, end tokens and mirostat's state.
///
/// A step takes one row of logits for each sequence and appends one token to each: the token that
/// `sample` draws from the same arguments. The state keeps the histories, so penalties are updated
/// for each token instead of counted again from the whole text. Sequences with different parameters
/// and seeds can step together: construct a state for each kind and `join` them.
///
/// Parameters
/// ----------
/// prompts : sequence of sequences of int
///     The token ids of each sequence's prompt, one entry a sequence.
/// params : Sample, optional
///     How tokens are chosen; by default the model's own distribution.
/// seed : int
///     0..2**64-1.
/// limits : int or sequence of int
///     The most new tokens of each sequence, at least 1.
/// streams, samples : int or sequence of int, optional
///     0..2**32-1, one for all or one a sequence. By default the sequence's index, and 0.
/// limit_reasons : str or sequence of str, default "length"
///     Why a sequence that reaches its limit ends: "length" or "context".
/// eos_token_ids : sequence of int, optional
///     Tokens that end a sequence.
/// prompt_lengths : int or sequence of int, optional
///     To resume sequences: how many of the tokens in `prompts` belong to the prompt; the others
///     were generated. By default all.
/// mus : sequence of float, optional
///     To resume sequences: mirostat's states, NaN at the start.
///
/// Raises
/// ------
/// ValueError
///     An argument out of range or of another length, or a sequence without room for a token.
#[pyclass(module = "fastdecode._core")]
pub struct DecodeState {
    state: Core,
}

/// The tokens drawn at a step, one for each row of logits, with the numbers that led to them.
///
/// Each attribute makes its array, of shape (rows,), when it is read. Some exist only where the
/// step was called with the option that they name.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct DecodeStep {
    drawn: Drawn,
}

impl DecodeStep {
    fn column<'py, T: Element>(
        &self,
        py: Python<'py>,
        field: impl Fn(&Choice) -> T,
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        let choices = self.drawn.choices().iter();
        let values = in_default_float_mode(|| memory::collect(choices.map(field)));
        Ok(values.map_err(exception)?.into_pyarray(py))
    }

    fn noted<'py, T: Element>(
        &self,
        py: Python<'py>,
        option: &str,
        field: impl Fn(&Choice) -> Option<T>,
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        let choices = self.drawn.choices();
        let mut values = memory::with_room(choices.len()).map_err(exception)?;
        in_default_float_mode(|| values.extend(choices.iter().map_while(field)));
        // An option is for all rows or none.
        if values.len() < choices.len() {
            return Err(not_noted(option));
        }
        Ok(values.into_pyarray(py))
    }

    fn entry<'py, T: Element>(
        &self,
        py: Python<'py>,
        field: impl Fn(&Ledger) -> T,
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        self.noted(py, "ledger", |choice| choice.noted.ledger.as_ref().map(&field))
    }
}

#[pymethods]
impl DecodeStep {
    /// The token ids (int64).
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.column(py, |choice| i64::from(choice.draw.token))
    }

    /// How many tokens of each sequence can be committed, shape (sequences,): 1, or with proposed
    /// tokens those up to the first that differs from its proposal or ends the sequence (int64).
    #[getter]
    fn committable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let counts = self.drawn.committable().iter().map(|&count| count.cast_signed() as i64);
        Ok(memory::collect(counts).map_err(exception)?.into_pyarray(py))
    }

    /// ln of each token's probability under the law it was drawn from, in nats (float64).
    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.column(py, |choice| choice.draw.logprob())
    }

    /// The tokens' weights in the laws they were drawn from (uint64).
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        self.column(py, |choice| choice.draw.weight)
    }

    /// The uniform integers drawn, each in [0, total) (uint64).
    #[getter]
    fn tickets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        self.column(py, |choice| choice.draw.ticket)
    }

    /// The laws' total weights, W (uint64).
    #[getter]
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        self.column(py, |choice| choice.draw.total)
    }

    /// Mirostat's state after each draw, in bits; NaN where mirostat is off (float64).
    #[getter]
    fn mus<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.column(py, |choice| choice.mu.unwrap_or(f64::NAN))
    }

    /// ln of each token's probability as the model gave it, in nats; with `raw_logprobs`
    /// (float64).
    #[getter]
    fn raw_logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, "raw_logprobs", |choice| choice.noted.raw)
    }

    /// ln of each token's probability after processors and temperature, before any truncation, in
    /// nats; with `processed_logprobs` (float64).
    #[getter]
    fn processed_logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, "processed_logprobs", |choice| choice.noted.processed)
    }

    /// ln of the share of the mass that the truncations kept, in nats; with `processed_logprobs`
    /// or the ledger (float64).
    #[getter]
    fn kept_logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, "processed_logprobs", |choice| {
            let entry = choice.noted.ledger.as_ref().map(|ledger| ledger.kept_logprob);
            choice.noted.kept.or(entry)
        })
    }

    /// For each row the model's likeliest token ids and ln of their probabilities, in nats; as
    /// many as the step was asked for.
    #[getter]
    fn alternatives<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.drawn.choices().iter().map(|choice| &choice.noted.alternatives[..]);
        object(py, memory::collect(rows).map_err(exception)?)
    }

    /// For each row the model's likeliest tokens, and the token drawn after them where it is not
    /// one, as (id, ln of the probability under the model, weight in the law that was drawn from);
    /// with the ledger.
    #[getter]
    fn candidates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let choices = self.drawn.choices();
        if choices.iter().any(|choice| choice.noted.ledger.is_none()) {
            return Err(not_noted("ledger"));
        }
        let mut rows = memory::with_room(choices.len()).map_err(exception)?;
        for choice in choices {
            let row = choice.noted.candidates.iter().map(|x| (x.token, x.logprob, x.weight));
            rows.push(memory::collect(row).map_err(exception)?);
        }
        object(py, rows)
    }

    /// Each token's place in the model's own order, from 1; with the ledger (int64).
    #[getter]
    fn ranks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.entry(py, |ledger| i64::from(ledger.rank))
    }

    /// How many tokens had a probability above zero; with the ledger (int64).
    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.entry(py, |ledger| i64::from(ledger.kept))
    }

    /// Entropy of the model's distribution, in nats; with the ledger (float64).
    #[getter]
    fn entropies_before<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.entry(py, |ledger| ledger.entropy_before)
    }

    /// Entropy of the law that was drawn from, in nats; with the ledger (float64).
    #[getter]
    fn entropies_after<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.entry(py, |ledger| ledger.entropy_after)
    }

    fn __len__(&self) -> usize {
        self.drawn.choices().len()
    }

    fn __repr__(&self) -> String {
        let some = self.drawn.choices().iter().take(8);
        let tokens: Vec<String> = some.map(|choice| choice.draw.token.to_string()).collect();
        let more = if self.drawn.choices().len() > 8 { ", ..." } else { "" };
        format!("DecodeStep(tokens=[{}{more}])", tokens.join(", "))
    }
}

fn not_noted(option: &str) -> PyErr {
    PyAttributeError::new_err(format!("this was not recorded; call step(..., {option}=True)"))
}

/// What a step is asked to note.
fn noting(
    raw: Given<'_, '_>,
    processed: Given<'_, '_>,
    alternatives: Option<&Bound<'_, PyAny>>,
    ledger: Given<'_, '_>,
    candidates: Option<&Bound<'_, PyAny>>,
) -> PyResult<Noting> {
    let count = |value: Option<&Bound<'_, PyAny>>, name| {
        value.map_or(Ok(0), |value| Ok::<_, PyErr>(arguments::word(value, name)? as usize))
    };
    let listed = count(candidates, "candidates")?;
    let alternatives = count(alternatives, "alternatives")?;
    let raw = raw.or("raw_logprobs", false)?;
    let processed = processed.or("processed_logprobs", false)?;
    let ledger = ledger.or("ledger", false)?;
    Ok(Noting { raw, processed, alternatives, ledger: ledger.then_some(listed) })
}

#[pymethods]
impl DecodeState {
    #[new]
    #[pyo3(signature = (
        prompts, params=None, *, seed, limits, streams=None, samples=None,
        limit_reasons=None, eos_token_ids=None, prompt_lengths=None, mus=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "by keyword in Python")]
    fn new(
        prompts: &Bound<'_, PyAny>,
        params: Option<&Bound<'_, PyAny>>,
        seed: &Bound<'_, PyAny>,
        limits: &Bound<'_, PyAny>,
        streams: Option<&Bound<'_, PyAny>>,
        samples: Option<&Bound<'_, PyAny>>,
        limit_reasons: Option<&Bound<'_, PyAny>>,
        eos_token_ids: Option<&Bound<'_, PyAny>>,
        prompt_lengths: Option<&Bound<'_, PyAny>>,
        mus: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let histories = arguments::token_lists(prompts, "prompts")?;
        let each = Each::sequence(histories.len());
        let seed = arguments::seed(seed)?;
        let limits = arguments::words(Some(limits), "limits", each, |_| 0)?;
        let reasons = limit_reasons.map_or(Ok(Vec::new()), |value| reasons(value, each))?;
        let streams = arguments::words(streams, "streams", each, |index| index as u32)?;
        let samples = arguments::words(samples, "samples", each, |_| 0)?;
        let lengths = arguments::words(prompt_lengths, "prompt_lengths", each, |index| {
            histories[index].len() as u32
        })?;
        let mus = mus.map_or(Ok(Vec::new()), |value| arguments::values(value, "mus", each))?;
        let pipeline = match params {
            Some(params) => {
                Arc::clone(&arguments::instance::<Sample>(params, "params")?.get().pipeline)
            }
            None => Arc::clone(model_itself()),
        };
        let ends: Vec<u32> =
            arguments::optional(eos_token_ids, "eos_token_ids")?.unwrap_or_default();
        let ends: Arc<[u32]> = ends.into();
        let mut state = Core::new();
        memory::probe(histories.len().saturating_mul(2 * size_of::<Sequence>()))
            .map_err(exception)?;
        for (index, history) in histories.into_iter().enumerate() {
            let limit = limits[index] as usize;
            let limit = match reasons.get(index) {
                Some(FinishReason::Context) => Limit::Context(limit),
                _ => Limit::Length(limit),
            };
            let sequence = Sequence::new(SequenceParams {
                pipeline: Arc::clone(&pipeline),
                seed,
                stream: streams[index],
                sample: samples[index],
                history,
                prompt: lengths[index] as usize,
                mu: mus.get(index).copied(),
                limit,
                ends: Arc::clone(&ends),
            });
            state
                .join([sequence.map_err(|error| exception(error.in_row(index).in_prompt(index)))?]);
        }
        Ok(Self { state })
    }

    fn __len__(&self) -> usize {
        self.state.len()
    }

    /// Move the sequences of another state after those of this one; the other is then empty.
    fn join(&mut self, other: &Bound<'_, PyAny>) -> PyResult<()> {
        let other = arguments::instance::<Self>(other, "other")?;
        let mut other = other.try_borrow_mut().map_err(|_| {
            PyValueError::new_err("other must be another DecodeState; a state cannot join itself")
        })?;
        self.state.append(&mut other.state);
        Ok(())
    }

    /// Keep these sequences, in this order. One that is named several times is forked; the copies
    /// have the same key, so the same logits give them the same tokens.
    fn keep(&mut self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let rows: Vec<usize> = arguments::indices(rows, "rows", self.state.len())?;
        self.state.keep(&rows).map_err(exception)
    }

    /// Add, as the last one, a copy of a sequence that continues as another sample of its prompt.
    fn fork(&mut self, row: &Bound<'_, PyAny>, sample: &Bound<'_, PyAny>) -> PyResult<()> {
        let row = arguments::index(row, "row", self.state.len())?;
        let sample = arguments::word(sample, "sample")?;
        self.state.fork(row, sample).map_err(exception)
    }

    /// Why each sequence has ended: "eos", "length" or "context", and None while it is in
    /// progress. Those that have ended must leave, by `keep`, before the next step.
    #[getter]
    fn reasons(&self) -> Vec<Option<&'static str>> {
        let name = |sequence: &Sequence| {
            sequence.reason().map(|reason| match reason {
                FinishReason::Eos => "eos",
                FinishReason::Length => "length",
                FinishReason::Context => "context",
            })
        };
        self.state.sequences().iter().map(name).collect()
    }

    /// The number of tokens of each sequence, prompt and generated (int64).
    #[getter]
    fn positions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let lengths = self.state.sequences().iter().map(|one| i64::from(one.key().position));
        Ok(memory::collect(lengths).map_err(exception)?.into_pyarray(py))
    }

    /// Mirostat's state of each sequence, in bits; NaN at the start and without mirostat (float64).
    #[getter]
    fn mus<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let mus = self.state.sequences().iter().map(|one| one.mu().unwrap_or(f64::NAN));
        Ok(memory::collect(mus).map_err(exception)?.into_pyarray(py))
    }

    /// The generated tokens of each sequence.
    fn generated<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.state.sequences().iter().map(|one| one.history().generated());
        object(py, memory::collect(rows).map_err(exception)?)
    }

    /// Append to each sequence the token drawn from its row of logits.
    ///
    /// Parameters
    /// ----------
    /// logits : array or tensor, (sequences, vocab)
    ///     float32, float16 or bfloat16: the logits after each sequence's last token.
    /// raw_logprobs, processed_logprobs, ledger : bool, default False
    ///     What else to record of each token; see `DecodeStep`.
    /// alternatives : int, default 0
    ///     How many of the model's likeliest tokens to record.
    /// candidates : int, default 0
    ///     With the ledger, how many of the model's likeliest tokens to record with their weights.
    ///
    /// Returns
    /// -------
    /// DecodeStep
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     Another number of rows than sequences, a sequence that has ended, NaN or +inf, or a row
    ///     without a token left. The state is then as before.
    #[pyo3(signature = (
        logits, *, raw_logprobs=Given::DEFAULT, processed_logprobs=Given::DEFAULT,
        alternatives=None, ledger=Given::DEFAULT, candidates=None,
    ), text_signature = "($self, logits, *, raw_logprobs=False, processed_logprobs=False, \
        alternatives=None, ledger=False, candidates=None)")]
    #[expect(clippy::too_many_arguments, reason = "by keyword in Python")]
    fn step(
        &mut self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        raw_logprobs: Given<'_, '_>,
        processed_logprobs: Given<'_, '_>,
        alternatives: Option<&Bound<'_, PyAny>>,
        ledger: Given<'_, '_>,
        candidates: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<DecodeStep> {
        let noting = noting(raw_logprobs, processed_logprobs, alternatives, ledger, candidates)?;
        let array = Borrowed::new(logits)?;
        let logits = array.logits();
        let state = &mut self.state;
        let drawn = detached(py, || state.step(&logits, noting))?;
        Ok(DecodeStep { drawn })
    }

    /// The rows after the logits processors, to be changed before `draw`. All processors are applied
    /// except `allowed`, which is part of the draw, so that no change undoes it.
    ///
    /// Parameters
    /// ----------
    /// logits : array or tensor, (batch, vocab)
    /// proposed : sequence of sequences of int, optional
    ///     As for `draw`.
    ///
    /// Returns
    /// -------
    /// float32 array, (rows, vocab)
    #[pyo3(signature = (logits, proposed=None))]
    fn process<'py>(
        &self,
        py: Python<'py>,
        logits: &Bound<'py, PyAny>,
        proposed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let array = Borrowed::new(logits)?;
        let logits = array.logits();
        let proposed: Vec<Vec<u32>> =
            arguments::optional(proposed, "proposed")?.unwrap_or_default();
        let state = &self.state;
        let rows = detached(py, || state.process(&logits, &proposed))?;
        PyArray1::from_vec(py, rows).reshape([logits.rows, logits.vocabulary])
    }

    /// Draw without appending anything; `commit` does.
    ///
    /// Parameters
    /// ----------
    /// logits : array or tensor, (batch, vocab)
    ///     One row a sequence, and with `proposed` one more for each of its proposed tokens: the
    ///     logits after the sequence's last token, after the first proposed one, and so on.
    /// processed : array, (batch, vocab), optional
    ///     The rows to draw from: what `process` returned, with any changes.
    /// proposed : sequence of sequences of int, optional
    ///     For each sequence the tokens that are expected next (speculative decoding).
    /// raw_logprobs, processed_logprobs, alternatives, ledger, candidates : optional
    ///     As for `step`.
    ///
    /// Returns
    /// -------
    /// DecodeStep
    #[pyo3(signature = (
        logits, processed=None, *, proposed=None, raw_logprobs=Given::DEFAULT,
        processed_logprobs=Given::DEFAULT, alternatives=None, ledger=Given::DEFAULT,
        candidates=None,
    ), text_signature = "($self, logits, processed=None, *, proposed=None, raw_logprobs=False, \
        processed_logprobs=False, alternatives=None, ledger=False, candidates=None)")]
    #[expect(clippy::too_many_arguments, reason = "by keyword in Python")]
    fn draw(
        &self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        processed: Option<&Bound<'_, PyAny>>,
        proposed: Option<&Bound<'_, PyAny>>,
        raw_logprobs: Given<'_, '_>,
        processed_logprobs: Given<'_, '_>,
        alternatives: Option<&Bound<'_, PyAny>>,
        ledger: Given<'_, '_>,
        candidates: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<DecodeStep> {
        let noting = noting(raw_logprobs, processed_logprobs, alternatives, ledger, candidates)?;
        let raw = Borrowed::new(logits)?;
        let raw = raw.logits();
        let processed = processed.map(|rows| Borrowed::named(rows, "processed")).transpose()?;
        let processed = processed.as_ref().map(Borrowed::logits);
        let proposed: Vec<Vec<u32>> =
            arguments::optional(proposed, "proposed")?.unwrap_or_default();
        let state = &self.state;
        let drawn = detached(py, || {
            let rows = match &processed {
                None => Rows::Raw(&raw),
                Some(rows) => Rows::Processed { rows, raw: Some(&raw) },
            };
            state.draw(rows, &proposed, noting)
        })?;
        Ok(DecodeStep { drawn })
    }

    /// Append what was drawn.
    ///
    /// Parameters
    /// ----------
    /// drawn : DecodeStep
    ///     From `draw`, with no change of the state since.
    /// counts : sequence of int, optional
    ///     How many of each sequence's tokens to append, at most `DecodeStep.committable`, which
    ///     is the default.
    #[pyo3(signature = (drawn, counts=None))]
    fn commit(
        &mut self,
        drawn: &Bound<'_, PyAny>,
        counts: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let drawn = arguments::instance::<DecodeStep>(drawn, "drawn")?.get();
        let counts: Option<Vec<usize>> = arguments::optional(counts, "counts")?;
        self.state.commit(&drawn.drawn, counts.as_deref()).map_err(exception)
    }
}

/// One reason for all sequences, or one per sequence.
fn reasons(value: &Bound<'_, PyAny>, each: Each) -> PyResult<Vec<FinishReason>> {
    let reason = |name: &String| match name.as_str() {
        "length" => Ok(FinishReason::Length),
        "context" => Ok(FinishReason::Context),
        _ => Err(PyValueError::new_err(format!(
            "limit_reasons has {}; give \"length\" or \"context\"",
            cut(format!("{name:?}"))
        ))),
    };
    if let Ok(name) = value.extract::<String>() {
        return memory::filled(reason(&name)?, each.count).map_err(exception);
    }
    let names: Vec<String> = arguments::values(value, "limit_reasons", each)?;
    names.iter().map(reason).collect()
}
