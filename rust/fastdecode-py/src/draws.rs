//! `Draws`: what a call to `sample` gives back, one entry a row.

use fastdecode_core::Draw;
use numpy::{Element, IntoPyArray, PyArray1};
use pyo3::prelude::*;

/// Tokens drawn, one a row, with the numbers that led to them.
///
/// Each attribute makes its array, of shape (rows,), when it is read.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct Draws {
    pub draws: Vec<Draw>,
}

impl Draws {
    fn column<'py, T: Element>(
        &self,
        py: Python<'py>,
        field: impl Fn(&Draw) -> T,
    ) -> Bound<'py, PyArray1<T>> {
        self.draws.iter().map(field).collect::<Vec<T>>().into_pyarray(py)
    }
}

#[pymethods]
impl Draws {
    /// The token ids (int64).
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.column(py, |draw| i64::from(draw.token))
    }

    /// ln of each token's probability under the law it was drawn from, in nats (float64).
    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.column(py, Draw::logprob)
    }

    /// How many tokens had a probability above zero (int64).
    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.column(py, |draw| i64::from(draw.kept))
    }

    /// The uniform integers drawn, each in [0, total) (uint64).
    #[getter]
    fn tickets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        self.column(py, |draw| draw.ticket)
    }

    /// The laws' total weights, W (uint64).
    #[getter]
    fn totals<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        self.column(py, |draw| draw.total)
    }

    fn __len__(&self) -> usize {
        self.draws.len()
    }

    fn __repr__(&self) -> String {
        let tokens: Vec<String> =
            self.draws.iter().take(8).map(|draw| draw.token.to_string()).collect();
        let more = if self.draws.len() > 8 { ", ..." } else { "" };
        format!("Draws(tokens=[{}{more}])", tokens.join(", "))
    }
}
