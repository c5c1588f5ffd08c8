//! `Sample`: the sampling parameters, checked when made.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastdecode_core::{Params, Sampler};
use pyo3::prelude::*;

use crate::outcome::refusal;

/// Sample each token from the model's distribution, after truncation.
///
/// The order is transformers': temperature, then top-k, then top-p, each seeing the renormalised
/// survivors of the one before. Nothing is on unless asked for.
///
/// Parameters
/// ----------
/// temperature : float, default 1.0
///     Divides the logits. Finite and >= 0; 0 is the greedy limit (the largest logit, ties to the
///     lower token id).
/// top_k : int, optional
///     Keep exactly the k likeliest tokens, ties at the border to the lower id (transformers keeps
///     every tie). At least 1; more than the vocabulary keeps all.
/// top_p : float, optional
///     Keep the smallest set, likeliest first, whose probability is at least p; the token that
///     crosses is kept (Holtzman et al., 2020). Between 0 and 1; at least one token stays.
///
/// Raises
/// ------
/// ValueError
///     A value out of range; the message names it and the fix.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct Sample {
    pub sampler: Sampler,
}

#[pymethods]
impl Sample {
    #[new]
    #[pyo3(signature = (temperature=1.0, top_k=None, top_p=None))]
    fn new(temperature: f64, top_k: Option<i64>, top_p: Option<f64>) -> PyResult<Self> {
        let params = Params { temperature, top_k, top_p };
        let sampler = Sampler::new(params).map_err(|error| refusal(&error))?;
        Ok(Self { sampler })
    }

    #[getter]
    fn temperature(&self) -> f64 {
        self.sampler.params().temperature
    }

    #[getter]
    fn top_k(&self) -> Option<i64> {
        self.sampler.params().top_k
    }

    #[getter]
    fn top_p(&self) -> Option<f64> {
        self.sampler.params().top_p
    }

    fn __repr__(&self) -> String {
        let Params { temperature, top_k, top_p } = self.sampler.params();
        let mut parts = vec![format!("temperature={temperature:?}")];
        parts.extend(top_k.map(|k| format!("top_k={k}")));
        parts.extend(top_p.map(|p| format!("top_p={p:?}")));
        format!("Sample({})", parts.join(", "))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.sampler.params() == other.sampler.params()
    }

    fn __hash__(&self) -> u64 {
        let Params { temperature, top_k, top_p } = self.sampler.params();
        let mut hasher = DefaultHasher::new();
        // Adding zero makes -0.0 hash like 0.0, which it equals.
        (temperature + 0.0).to_bits().hash(&mut hasher);
        top_k.hash(&mut hasher);
        top_p.map(|p| (p + 0.0).to_bits()).hash(&mut hasher);
        hasher.finish()
    }

    fn __getnewargs__(&self) -> (f64, Option<i64>, Option<f64>) {
        let Params { temperature, top_k, top_p } = self.sampler.params();
        (temperature, top_k, top_p)
    }
}
