//! `Sample`: the sampling parameters, checked when made.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastdecode_core::{
    DryParams, DynamicTemperature, Mirostat, Params, Pipeline, ProcessorParams, Xtc,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::outcome::refusal;

/// Puts a field into a dict where it is not at its default.
macro_rules! set_changed {
    ($all:expr, $name:ident, $from:expr, $default:expr) => {
        if $from.$name != $default.$name {
            $all.set_item(stringify!($name), $from.$name.clone())?;
        }
    };
}
pub(crate) use set_changed;

/// Sample each token from the model's distribution, after processors and truncation.
///
/// The order is transformers', whatever the order of the arguments: logit bias, repetition,
/// frequency and presence penalties, DRY, no-repeat n-gram, bad words, minimum length, allowed
/// tokens; then temperature, top-n-sigma, top-k, top-p, min-p, typical, epsilon, eta, mirostat,
/// XTC. Each truncation sees the renormalised survivors of the one before. Nothing is on unless
/// asked for, and at least one token always stays.
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
///     crosses is kept (Holtzman et al., 2020). Between 0 and 1.
/// min_p : float, optional
///     Keep tokens at least this many times as likely as the likeliest (Nguyen et al., 2024).
/// typical_p : float, optional
///     Keep the tokens whose surprisal is nearest to the entropy, up to this mass, ties and all
///     (Meister et al., 2023).
/// epsilon_cutoff, eta_cutoff : float, optional
///     Keep probabilities of at least this; eta lowers it where entropy is high
///     (Hewitt et al., 2022).
/// top_n_sigma : float, optional
///     Keep logits within this many standard deviations of the largest (Tang et al., 2024).
/// dynamic_temperature : (low, high) or (low, high, exponent), optional
///     Instead of `temperature`: low where the row's entropy is 0, high where it is largest, as
///     llama.cpp has it. The exponent (default 1) bends the way between.
/// mirostat : (tau, eta), optional
///     Mirostat 2.0 (Basu et al., 2021): aim at a surprisal of tau bits, at the learning rate eta.
/// xtc : (probability, threshold), optional
///     Exclude top choices, as llama.cpp has it: with this probability, drop all tokens that reach
///     the threshold but the least likely of them.
/// repetition_penalty : float, default 1.0
///     Divides positive logits of tokens in the prompt or the text so far, multiplies negative
///     ones (Keskar et al., 2019).
/// frequency_penalty, presence_penalty : float, default 0.0
///     Subtracted from a token's logit for each time that it occurred, or once if it did (OpenAI's
///     formula, over prompt and text).
/// dry : dict, optional
///     Penalty on continuing a repetition, as llama.cpp has it: multiplier, and optionally base
///     (1.75), allowed_length (2), range (None: all) and sequence_breakers (token id sequences).
/// no_repeat_ngram_size : int, default 0
///     No n-gram of this size occurs twice. 0 is off.
/// logit_bias : dict or list of pairs, optional
///     Added to the logit of a token id, or of the last of a tuple of ids where the text ends with
///     the others. -inf bans.
/// bad_words : list of lists of int, optional
///     Token id sequences that are never completed; a word that is one EOS token alone is ignored,
///     as in transformers.
/// min_new_tokens : int, default 0
///     No end-of-sequence token before so many tokens.
/// allowed : list of int, optional
///     Bans all other token ids.
/// eos_token_id : list of int, optional
///     What min_new_tokens bans; a `Decoder` fills it in from its tokenizer.
///
/// Raises
/// ------
/// ValueError
///     A value out of range; the message names it and the fix.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct Sample {
    pub pipeline: Pipeline,
}

#[pymethods]
impl Sample {
    #[new]
    #[pyo3(signature = (
        temperature=1.0, top_k=None, top_p=None, *, min_p=None, typical_p=None,
        epsilon_cutoff=None, eta_cutoff=None, top_n_sigma=None, dynamic_temperature=None,
        mirostat=None, xtc=None, repetition_penalty=1.0, frequency_penalty=0.0,
        presence_penalty=0.0, dry=None, no_repeat_ngram_size=0, logit_bias=None, bad_words=None,
        min_new_tokens=0, allowed=None, eos_token_id=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "one argument a parameter, by keyword")]
    fn new(
        temperature: f64,
        top_k: Option<i64>,
        top_p: Option<f64>,
        min_p: Option<f64>,
        typical_p: Option<f64>,
        epsilon_cutoff: Option<f64>,
        eta_cutoff: Option<f64>,
        top_n_sigma: Option<f64>,
        dynamic_temperature: Option<Bound<'_, PyAny>>,
        mirostat: Option<Bound<'_, PyAny>>,
        xtc: Option<Bound<'_, PyAny>>,
        repetition_penalty: f64,
        frequency_penalty: f64,
        presence_penalty: f64,
        dry: Option<Bound<'_, PyAny>>,
        no_repeat_ngram_size: i64,
        logit_bias: Option<Bound<'_, PyAny>>,
        bad_words: Option<Vec<Vec<u32>>>,
        min_new_tokens: i64,
        allowed: Option<Vec<u32>>,
        eos_token_id: Option<Vec<u32>>,
    ) -> PyResult<Self> {
        let params = Params {
            temperature,
            dynamic_temperature: dynamic_temperature.map(|value| range(&value)).transpose()?,
            top_n_sigma,
            top_k,
            top_p,
            min_p,
            typical_p,
            epsilon_cutoff,
            eta_cutoff,
            mirostat: pair(mirostat, "mirostat must be (tau, eta)")?
                .map(|(tau, eta)| Mirostat { tau, eta }),
            xtc: pair(xtc, "xtc must be (probability, threshold)")?
                .map(|(probability, threshold)| Xtc { probability, threshold }),
        };
        let processors = ProcessorParams {
            logit_bias: logit_bias.map(|value| biases(&value)).transpose()?.unwrap_or_default(),
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            dry: dry.map(|value| dry_params(&value)).transpose()?,
            no_repeat_ngram_size,
            bad_words: bad_words.unwrap_or_default(),
            min_new_tokens,
            eos: eos_token_id.unwrap_or_default(),
            allowed,
        };
        let pipeline = Pipeline::new(params, processors).map_err(|error| refusal(&error))?;
        Ok(Self { pipeline })
    }

    #[getter]
    fn temperature(&self) -> f64 {
        self.params().temperature
    }

    #[getter]
    fn top_k(&self) -> Option<i64> {
        self.params().top_k
    }

    #[getter]
    fn top_p(&self) -> Option<f64> {
        self.params().top_p
    }

    /// Whether a row's history (prompt and text so far) can change its logits.
    #[getter]
    fn needs_history(&self) -> bool {
        self.pipeline.processors().needs_history()
    }

    /// Whether each row carries mirostat's state from step to step.
    #[getter]
    fn adapts(&self) -> bool {
        self.params().mirostat.is_some()
    }

    /// Every parameter that is not at its default, as plain data: `Sample(**settings)` is equal.
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fine = Params::default();
        let params = self.params();
        let processors = self.pipeline.processors().params();
        let all = PyDict::new(py);
        set_changed!(all, temperature, params, fine);
        set_changed!(all, top_k, params, fine);
        set_changed!(all, top_p, params, fine);
        set_changed!(all, min_p, params, fine);
        set_changed!(all, typical_p, params, fine);
        set_changed!(all, epsilon_cutoff, params, fine);
        set_changed!(all, eta_cutoff, params, fine);
        set_changed!(all, top_n_sigma, params, fine);
        if let Some(d) = params.dynamic_temperature {
            all.set_item("dynamic_temperature", (d.low, d.high, d.exponent))?;
        }
        if let Some(m) = params.mirostat {
            all.set_item("mirostat", (m.tau, m.eta))?;
        }
        if let Some(x) = params.xtc {
            all.set_item("xtc", (x.probability, x.threshold))?;
        }
        processor_settings(&all, processors)?;
        Ok(all)
    }

    /// The same parameters with these end-of-sequence tokens.
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn with_eos(&self, eos_token_id: Vec<u32>) -> PyResult<Self> {
        let pipeline = self.pipeline.with_eos(&eos_token_id).map_err(|error| refusal(&error))?;
        Ok(Self { pipeline })
    }

    /// Refuse token ids that a vocabulary of this size does not have.
    fn check_vocabulary(&self, size: usize) -> PyResult<()> {
        self.pipeline.processors().check(size).map_err(|error| refusal(&error))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = vec![format!("temperature={:?}", self.temperature())];
        for (name, value) in self.settings(py)? {
            if name.to_string() != "temperature" {
                parts.push(format!("{name}={}", value.repr()?));
            }
        }
        Ok(format!("Sample({})", parts.join(", ")))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.pipeline == other.pipeline
    }

    fn __hash__(&self) -> u64 {
        let Params { temperature, top_k, top_p, min_p, .. } = self.params();
        let mut hasher = DefaultHasher::new();
        // Adding zero makes -0.0 hash like 0.0, which it equals.
        (temperature + 0.0).to_bits().hash(&mut hasher);
        top_k.hash(&mut hasher);
        top_p.map(|p| (p + 0.0).to_bits()).hash(&mut hasher);
        min_p.map(|p| (p + 0.0).to_bits()).hash(&mut hasher);
        hasher.finish()
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.settings(py)?))
    }
}

impl Sample {
    fn params(&self) -> Params {
        self.pipeline.sampler().params()
    }
}

/// Puts the processors that are not at their defaults into a dict.
pub fn processor_settings(all: &Bound<'_, PyDict>, processors: &ProcessorParams) -> PyResult<()> {
    let plain = ProcessorParams::default();
    set_changed!(all, repetition_penalty, processors, plain);
    set_changed!(all, frequency_penalty, processors, plain);
    set_changed!(all, presence_penalty, processors, plain);
    if let Some(dry) = &processors.dry {
        let values = PyDict::new(all.py());
        values.set_item("multiplier", dry.multiplier)?;
        values.set_item("base", dry.base)?;
        values.set_item("allowed_length", dry.allowed_length)?;
        values.set_item("range", dry.range)?;
        values.set_item("sequence_breakers", dry.sequence_breakers.clone())?;
        all.set_item("dry", values)?;
    }
    set_changed!(all, no_repeat_ngram_size, processors, plain);
    set_changed!(all, logit_bias, processors, plain);
    set_changed!(all, bad_words, processors, plain);
    set_changed!(all, min_new_tokens, processors, plain);
    set_changed!(all, allowed, processors, plain);
    if !processors.eos.is_empty() {
        all.set_item("eos_token_id", processors.eos.clone())?;
    }
    Ok(())
}

fn pair(value: Option<Bound<'_, PyAny>>, fix: &str) -> PyResult<Option<(f64, f64)>> {
    let Some(value) = value else { return Ok(None) };
    let [first, second] = value
        .extract::<Vec<f64>>()
        .ok()
        .and_then(|values| values.try_into().ok())
        .ok_or_else(|| wrong(fix, &value))?;
    Ok(Some((first, second)))
}

fn range(value: &Bound<'_, PyAny>) -> PyResult<DynamicTemperature> {
    let values = value.extract::<Vec<f64>>().unwrap_or_default();
    match values[..] {
        [low, high] => Ok(DynamicTemperature { low, high, exponent: 1.0 }),
        [low, high, exponent] => Ok(DynamicTemperature { low, high, exponent }),
        _ => Err(wrong("dynamic_temperature must be (low, high) or (low, high, exponent)", value)),
    }
}

/// A dict, or pairs as JSON has them: a token id or several, and what is added.
pub fn biases(value: &Bound<'_, PyAny>) -> PyResult<Vec<(Vec<u32>, f32)>> {
    let items = match value.cast::<PyDict>() {
        Ok(dict) => dict.items().into_any(),
        Err(_) => value.clone(),
    };
    let fix = "logit_bias must map token ids, or tuples of them, to numbers";
    let mut biases = Vec::new();
    for item in items.try_iter().map_err(|_| wrong(fix, value))? {
        let (key, bias) =
            item?.extract::<(Bound<'_, PyAny>, f32)>().map_err(|_| wrong(fix, value))?;
        let ids = match key.extract::<u32>() {
            Ok(id) => vec![id],
            Err(_) => key.extract::<Vec<u32>>().map_err(|_| wrong(fix, value))?,
        };
        biases.push((ids, bias));
    }
    Ok(biases)
}

pub fn dry_params(value: &Bound<'_, PyAny>) -> PyResult<DryParams> {
    let fix = "dry must be a dict with multiplier, and if wanted base, allowed_length, range and \
               sequence_breakers";
    let dict = value.cast::<PyDict>().map_err(|_| wrong(fix, value))?;
    let mut dry = DryParams::default();
    for (name, value) in dict {
        match name.to_string().as_str() {
            "multiplier" => dry.multiplier = value.extract()?,
            "base" => dry.base = value.extract()?,
            "allowed_length" => dry.allowed_length = value.extract()?,
            "range" => dry.range = value.extract()?,
            "sequence_breakers" => dry.sequence_breakers = value.extract()?,
            _ => return Err(wrong(fix, dict)),
        }
    }
    Ok(dry)
}

pub fn wrong(fix: &str, value: &Bound<'_, PyAny>) -> PyErr {
    match value.repr() {
        Ok(repr) => PyTypeError::new_err(format!("{fix}; got {repr}")),
        Err(error) => error,
    }
}
