//! `Draws`: the result of `sample`, one entry per row.

use fastdecode_core::{Ledger, Sampled};
use fastdecode_simd::{in_default_float_mode, memory};
use numpy::{Element, IntoPyArray, PyArray1};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;

use crate::errors::{exception, object};

/// Tokens drawn, one per row, with the numbers that led to them.
///
/// Each attribute makes its array, of shape (rows,), when it is read. The attributes kept,
/// raw_logprobs, ranks, kept_logprobs, entropies_before, entropies_after and alternatives need
/// `sample(ledger=True)`.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct Draws {
    pub rows: Vec<Sampled>,
    /// Whether every row has a ledger.
    pub noted: bool,
}

impl Draws {
    fn column<'py, T: Element>(
        &self,
        py: Python<'py>,
        field: impl Fn(&Sampled) -> T,
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        let values = in_default_float_mode(|| memory::collect(self.rows.iter().map(field)));
        Ok(values.map_err(exception)?.into_pyarray(py))
    }

    fn ledgers(&self) -> PyResult<impl Iterator<Item = &Ledger>> {
        if self.noted {
            return Ok(self.rows.iter().filter_map(|row| row.ledger.as_ref()));
        }
        Err(PyAttributeError::new_err("this was not noted; call sample(..., ledger=True)"))
    }

    fn noted<'py, T: Element>(
        &self,
        py: Python<'py>,
        field: impl Fn(&Ledger) -> T,
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        let ledgers = self.ledgers()?;
        let mut values = memory::with_room(self.rows.len()).map_err(exception)?;
        in_default_float_mode(|| values.extend(ledgers.map(field)));
        Ok(values.into_pyarray(py))
    }
}

#[pymethods]
impl Draws {
    /// The token ids (int64).
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.column(py, |row| i64::from(row.draw.token))
    }

    /// ln of each token's probability under the law it was drawn from, in nats (float64).
    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.column(py, |row| row.draw.logprob())
    }

    /// The uniform integers drawn, each in [0, total) (uint64).
    #[getter]
    fn tickets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        self.column(py, |row| row.draw.ticket)
    }

    /// The laws' total weights, W (uint64).
    #[getter]
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        self.column(py, |row| row.draw.total)
    }

    /// Mirostat's state after each draw, in bits; NaN where mirostat is off (float64).
    #[getter]
    fn mus<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.column(py, |row| row.mu.unwrap_or(f64::NAN))
    }

    /// ln of each token's probability as the model gave it, in nats (float64).
    #[getter]
    fn raw_logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, |ledger| ledger.raw_logprob)
    }

    /// Each token's rank among the model's logits, from 1 (int64).
    #[getter]
    fn ranks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.noted(py, |ledger| i64::from(ledger.rank))
    }

    /// How many tokens had a probability above zero (int64).
    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.noted(py, |ledger| i64::from(ledger.kept))
    }

    /// ln of the share of the mass that the truncations kept, in nats (float64).
    #[getter]
    fn kept_logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, |ledger| ledger.kept_logprob)
    }

    /// Entropy of the model's distribution, in nats (float64).
    #[getter]
    fn entropies_before<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, |ledger| ledger.entropy_before)
    }

    /// Entropy of the law that the token was drawn from, in nats (float64).
    #[getter]
    fn entropies_after<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.noted(py, |ledger| ledger.entropy_after)
    }

    /// For each row, the model's likeliest token ids and ln of their probabilities, in nats.
    #[getter]
    fn alternatives<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut rows = memory::with_room(self.rows.len()).map_err(exception)?;
        rows.extend(self.ledgers()?.map(|ledger| &ledger.alternatives[..]));
        object(py, rows)
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    fn __repr__(&self) -> String {
        let tokens: Vec<String> =
            self.rows.iter().take(8).map(|row| row.draw.token.to_string()).collect();
        let more = if self.rows.len() > 8 { ", ..." } else { "" };
        format!("Draws(tokens=[{}{more}])", tokens.join(", "))
    }
}
