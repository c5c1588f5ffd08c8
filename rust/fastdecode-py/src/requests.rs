//! The arguments of `sample` and its like besides the logits, row by row.

use std::sync::{Arc, LazyLock};

use fastdecode_core::{DrawContext, History, Key, Params, Pipeline, ProcessorParams, Request};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::{self, Each, shown};
use crate::errors::exception;
use crate::params::Sample;

/// Parameters for all rows, or one a row.
enum Strategies {
    Model,
    One(Py<Sample>),
    Each(Vec<Py<Sample>>),
}

/// One request for each row of logits.
pub struct Requests {
    strategies: Strategies,
    seed: u64,
    streams: Vec<u32>,
    samples: Vec<u32>,
    positions: Vec<u32>,
    histories: Vec<Vec<u32>>,
    prompts: Vec<u32>,
    mus: Vec<f64>,
}

/// The arguments that identify a draw.
#[derive(Default)]
pub struct Keys<'a, 'py> {
    pub seed: Option<&'a Bound<'py, PyAny>>,
    pub streams: Option<&'a Bound<'py, PyAny>>,
    pub samples: Option<&'a Bound<'py, PyAny>>,
    pub positions: Option<&'a Bound<'py, PyAny>>,
}

/// The arguments that describe the sequences so far.
#[derive(Default)]
pub struct Past<'a, 'py> {
    pub histories: Option<&'a Bound<'py, PyAny>>,
    pub prompt_lengths: Option<&'a Bound<'py, PyAny>>,
    pub mus: Option<&'a Bound<'py, PyAny>>,
}

impl Requests {
    pub fn new(
        rows: usize,
        params: Option<&Bound<'_, PyAny>>,
        keys: &Keys<'_, '_>,
        past: &Past<'_, '_>,
    ) -> PyResult<Self> {
        let each = Each::row(rows);
        let requests = Self {
            strategies: strategies(params, each)?,
            seed: keys.seed.map_or(Ok(0), arguments::seed)?,
            streams: arguments::words(keys.streams, "streams", each, |row| row as u32)?,
            samples: arguments::words(keys.samples, "samples", each, |_| 0)?,
            positions: arguments::words(keys.positions, "positions", each, |_| 0)?,
            histories: past.histories.map_or(Ok(Vec::new()), |value| histories(value, each))?,
            prompts: match past.prompt_lengths {
                None => Vec::new(),
                some => arguments::words(some, "prompt_lengths", each, |_| 0)?,
            },
            mus: past.mus.map_or(Ok(Vec::new()), |value| arguments::values(value, "mus", each))?,
        };
        for pipeline in requests.pipelines() {
            pipeline.require(past.histories.is_some(), keys.seed.is_some()).map_err(exception)?;
            // By default a history is all prompt, so that nothing would be penalised.
            if pipeline.processors().needs_prompt() && past.prompt_lengths.is_none() {
                return Err(PyValueError::new_err(
                    "penalties_count_prompt=False counts the generated tokens alone; give \
                     prompt_lengths=, how many tokens of each history are the prompt's",
                ));
            }
        }
        Ok(requests)
    }

    /// The parameters of a row.
    pub fn pipeline(&self, row: usize) -> &Pipeline {
        match &self.strategies {
            Strategies::Model => model_itself(),
            Strategies::One(sample) => &sample.get().pipeline,
            Strategies::Each(samples) => &samples[row].get().pipeline,
        }
    }

    /// A row's request.
    pub fn request(&self, row: usize) -> Request<'_> {
        let key = Key {
            seed: self.seed,
            stream: self.streams[row],
            sample: self.samples[row],
            position: self.positions[row],
        };
        let mu = self.mus.get(row).copied();
        let tokens = self.histories.get(row).map_or(&[][..], Vec::as_slice);
        let prompt = self.prompts.get(row).map_or(tokens.len(), |&prompt| prompt as usize);
        Request { context: DrawContext { key, mu }, history: History::new(tokens, prompt) }
    }

    /// Each pipeline once.
    fn pipelines(&self) -> Vec<&Pipeline> {
        match &self.strategies {
            Strategies::Model => vec![model_itself()],
            Strategies::One(sample) => vec![&sample.get().pipeline],
            Strategies::Each(samples) => {
                samples.iter().map(|sample| &*sample.get().pipeline).collect()
            }
        }
    }
}

/// The pipeline that leaves the model's distribution unchanged.
pub fn model_itself() -> &'static Arc<Pipeline> {
    static PIPELINE: LazyLock<Option<Arc<Pipeline>>> = LazyLock::new(|| {
        Pipeline::new(Params::default(), ProcessorParams::default()).map(Arc::new).ok()
    });
    PIPELINE.as_ref().unwrap_or_else(|| unreachable!("the defaults are in range"))
}

fn strategies(params: Option<&Bound<'_, PyAny>>, each: Each) -> PyResult<Strategies> {
    let Some(params) = params else { return Ok(Strategies::Model) };
    if let Ok(sample) = params.cast::<Sample>() {
        return Ok(Strategies::One(sample.clone().unbind()));
    }
    let samples = params.extract::<Vec<Py<Sample>>>().map_err(|_| {
        PyTypeError::new_err(format!(
            "params must be a Sample, or a sequence of them, one a row of logits, got {}",
            shown(params)
        ))
    })?;
    each.check(samples.len(), "params")?;
    Ok(Strategies::Each(samples))
}

fn histories(value: &Bound<'_, PyAny>, each: Each) -> PyResult<Vec<Vec<u32>>> {
    let histories = arguments::token_lists(value, "histories")?;
    each.check(histories.len(), "histories")?;
    Ok(histories)
}
