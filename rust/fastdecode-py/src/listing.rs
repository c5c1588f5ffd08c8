//! `Listing`: every continuation above a probability, under way.

use fastdecode_core::beam::{Listing as Core, Step};
use pyo3::prelude::*;

use crate::beam_state::{BeamOutcome, BeamStep};
use crate::borrow::Borrowed;
use crate::outcome::{detached, refusal};

/// A search under way for every continuation of a prompt with at least a given probability.
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
    fn new(min_probability: f64, max_new_tokens: usize, eos_token_ids: Vec<u32>) -> PyResult<Self> {
        let listing = Core::new(min_probability, max_new_tokens, eos_token_ids);
        Ok(Self { listing: listing.map_err(|error| refusal(&error))? })
    }

    /// How many rows of logits the next step takes; 0 when all is listed.
    #[getter]
    fn rows(&self) -> usize {
        self.listing.rows()
    }

    /// Take the logits behind each row, (rows, vocab), and go on to the next rows.
    fn step(&mut self, py: Python<'_>, logits: &Bound<'_, PyAny>) -> PyResult<BeamStep> {
        let array = Borrowed::new(logits)?;
        let logits = array.logits();
        let (tokens, parents) = detached(py, || self.listing.step(&logits))?;
        Ok(BeamStep { step: Step { tokens, parents, done: Vec::new() } })
    }

    /// What is listed so far, likeliest first; a score is the log-probability, in nats.
    fn outcomes(&self) -> Vec<BeamOutcome> {
        let outcomes = self.listing.outcomes().into_iter();
        outcomes.map(|outcome| BeamOutcome { outcome }).collect()
    }
}
