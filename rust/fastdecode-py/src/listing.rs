//! `Listing`: a search for every continuation above a probability, in progress.

use fastdecode_core::beam::{Listing as Core, Step};
use fastdecode_simd::in_default_float_mode;
use pyo3::prelude::*;

use crate::arguments;
use crate::beam_state::{BeamStep, listed};
use crate::borrow::Borrowed;
use crate::errors::{detached, exception};

/// A search, in progress, for every continuation of a prompt that has at least a given probability.
///
/// Parameters
/// ----------
/// min_probability : float
///     Above 0 and at most 1. Work and memory grow as its inverse.
/// max_new_tokens : int
///     The most new tokens, at least 1.
/// eos_token_ids : sequence of int
///     Tokens that end a sequence.
#[pyclass(module = "fastdecode._core")]
pub struct Listing {
    listing: Core,
}

#[pymethods]
impl Listing {
    #[new]
    fn new(
        min_probability: &Bound<'_, PyAny>,
        max_new_tokens: &Bound<'_, PyAny>,
        eos_token_ids: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let bound = arguments::read(min_probability, "min_probability")?;
        let limit = arguments::read(max_new_tokens, "max_new_tokens")?;
        let ends = arguments::read(eos_token_ids, "eos_token_ids")?;
        Ok(Self { listing: Core::new(bound, limit, ends).map_err(exception)? })
    }

    /// How many rows of logits the next step takes; 0 when every continuation is listed.
    #[getter]
    fn rows(&self) -> usize {
        self.listing.rows()
    }

    /// Take the logits after each row's last token, (rows, vocab), and advance to the next rows.
    fn step(&mut self, py: Python<'_>, logits: &Bound<'_, PyAny>) -> PyResult<BeamStep> {
        let array = Borrowed::new(logits)?;
        let logits = array.logits();
        let (tokens, parents) = detached(py, || self.listing.step(&logits))?;
        Ok(BeamStep { step: Step { tokens, parents, done: Vec::new() } })
    }

    /// The continuations listed so far, likeliest first; a score is the log-probability, in nats.
    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let outcomes = in_default_float_mode(|| self.listing.outcomes()).map_err(exception)?;
        listed(py, outcomes)
    }
}
