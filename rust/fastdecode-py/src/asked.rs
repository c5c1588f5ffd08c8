//! What `sample` and its like are asked for, row by row.

use std::sync::{Arc, LazyLock};

use fastdecode_core::{DrawContext, History, Key, Params, Pipeline, ProcessorParams, Request};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments;
use crate::outcome::refusal;
use crate::params::Sample;

/// The pipeline that leaves the model's distribution as it is.
pub fn model_itself() -> &'static Arc<Pipeline> {
    static PIPELINE: LazyLock<Option<Arc<Pipeline>>> = LazyLock::new(|| {
        Pipeline::new(Params::default(), ProcessorParams::default()).map(Arc::new).ok()
    });
    PIPELINE.as_ref().unwrap_or_else(|| unreachable!("the defaults are in range"))
}

/// Parameters for all rows, or one a row.
enum Strategies {
    Model,
    One(Py<Sample>),
    Each(Vec<Py<Sample>>),
}

/// Everything beside the logits.
pub struct Asked {
    strategies: Strategies,
    seed: u64,
    streams: Vec<u32>,
    samples: Vec<u32>,
    positions: Vec<u32>,
    histories: Vec<Vec<u32>>,
    prompts: Vec<u32>,
    mus: Vec<f64>,
}

/// The arguments that say which draw of which row it is.
#[derive(Default)]
pub struct Keys<'a, 'py> {
    pub seed: Option<&'a Bound<'py, PyAny>>,
    pub streams: Option<&'a Bound<'py, PyAny>>,
    pub samples: Option<&'a Bound<'py, PyAny>>,
    pub positions: Option<&'a Bound<'py, PyAny>>,
}

/// The arguments that say what came before.
#[derive(Default)]
pub struct Past<'a, 'py> {
    pub histories: Option<&'a Bound<'py, PyAny>>,
    pub prompt_lengths: Option<&'a Bound<'py, PyAny>>,
    pub mus: Option<&'a Bound<'py, PyAny>>,
}

impl Asked {
    pub fn new(
        rows: usize,
        params: Option<&Bound<'_, PyAny>>,
        keys: &Keys<'_, '_>,
        past: &Past<'_, '_>,
    ) -> PyResult<Self> {
        let asked = Self {
            strategies: strategies(params, rows)?,
            seed: keys.seed.map_or(Ok(0), arguments::seed)?,
            streams: arguments::words(keys.streams, "streams", rows, |row| row as u32)?,
            samples: arguments::words(keys.samples, "samples", rows, |_| 0)?,
            positions: arguments::words(keys.positions, "positions", rows, |_| 0)?,
            histories: past.histories.map_or(Ok(Vec::new()), |value| histories(value, rows))?,
            prompts: match past.prompt_lengths {
                None => Vec::new(),
                some => arguments::words(some, "prompt_lengths", rows, |_| 0)?,
            },
            mus: past.mus.map_or(Ok(Vec::new()), |value| mus(value, rows))?,
        };
        for row in 0..rows {
            let pipeline = asked.pipeline(row);
            if asked.histories.is_empty() && pipeline.processors().needs_history() {
                return Err(PyValueError::new_err(
                    "these parameters depend on the text so far; give histories=, the token ids \
                     of each row's prompt and text",
                ));
            }
            if keys.seed.is_none() && pipeline.sampler().tosses() {
                return Err(PyValueError::new_err(
                    "xtc tosses a coin for each token; give seed= (and streams, samples, \
                     positions) to say which",
                ));
            }
            if matches!(asked.strategies, Strategies::Model | Strategies::One(_)) {
                break;
            }
        }
        Ok(asked)
    }

    /// The parameters of a row.
    pub fn pipeline(&self, row: usize) -> &Pipeline {
        match &self.strategies {
            Strategies::Model => model_itself(),
            Strategies::One(sample) => &sample.get().pipeline,
            Strategies::Each(samples) => &samples[row].get().pipeline,
        }
    }

    /// What a row brings.
    pub fn request(&self, row: usize) -> Request<'_> {
        let key = Key {
            seed: self.seed,
            stream: self.streams[row],
            sample: self.samples[row],
            position: self.positions[row],
        };
        let mu = self.mus.get(row).copied().filter(|mu| !mu.is_nan());
        let tokens = self.histories.get(row).map_or(&[][..], Vec::as_slice);
        let prompt = self.prompts.get(row).map_or(tokens.len(), |&prompt| prompt as usize);
        Request { context: DrawContext { key, mu }, history: History::new(tokens, prompt) }
    }
}

fn strategies(params: Option<&Bound<'_, PyAny>>, rows: usize) -> PyResult<Strategies> {
    let Some(params) = params else { return Ok(Strategies::Model) };
    if let Ok(sample) = params.cast::<Sample>() {
        return Ok(Strategies::One(sample.clone().unbind()));
    }
    let each = params.extract::<Vec<Py<Sample>>>().map_err(|_| {
        PyTypeError::new_err("params must be a Sample, or a sequence of them, one a row of logits")
    })?;
    if each.len() == rows {
        return Ok(Strategies::Each(each));
    }
    Err(refusal(&fastdecode_core::Error::Length { name: "params", got: each.len(), rows }))
}

fn histories(value: &Bound<'_, PyAny>, rows: usize) -> PyResult<Vec<Vec<u32>>> {
    let all = token_lists(value, "histories")?;
    if all.len() == rows {
        return Ok(all);
    }
    Err(refusal(&fastdecode_core::Error::Length { name: "histories", got: all.len(), rows }))
}

/// Token ids, a list a row; arrays of uint32 without an object per entry.
pub fn token_lists(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<Vec<u32>>> {
    let wrong =
        || PyTypeError::new_err(format!("{name} must be a sequence of token ids for each row"));
    let mut all = Vec::new();
    for row in value.try_iter().map_err(|_| wrong())? {
        let row = row?;
        all.push(match row.cast::<PyArray1<u32>>() {
            Ok(array) => array.readonly().as_array().to_vec(),
            Err(_) => row.extract().map_err(|_| wrong())?,
        });
    }
    Ok(all)
}

/// Mirostat's state: NaN where a sequence begins.
pub fn mus(value: &Bound<'_, PyAny>, rows: usize) -> PyResult<Vec<f64>> {
    let mus: Vec<f64> = match value.cast::<PyArray1<f64>>() {
        Ok(array) => array.readonly().as_array().to_vec(),
        Err(_) => value
            .extract()
            .map_err(|_| PyTypeError::new_err("mus must be a sequence of numbers, one a row"))?,
    };
    if mus.len() == rows {
        return Ok(mus);
    }
    Err(refusal(&fastdecode_core::Error::Length { name: "mus", got: mus.len(), rows }))
}
