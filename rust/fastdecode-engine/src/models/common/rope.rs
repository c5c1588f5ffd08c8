//! Rotary embeddings as transformers' configurations describe them: the frequencies of each pair of
//! dimensions, for the types default, linear, llama3 and yarn.
//!
//! Frequencies are float32, computed by the operations of transformers' `modeling_rope_utils.py`, in
//! float32 where it has tensors and in float64 where it has Python's floats.

use super::checks::{self, LARGEST};
use crate::error::Result;
use crate::ops::Rotary;
use fastdecode_simd::math::exp::exp;
use fastdecode_simd::math::ln::ln_real;
use fastdecode_simd::math::trig::LARGEST_ANGLE;
use serde::Deserialize;
use serde_json::Value;
use std::f64::consts::PI;

/// The fields of a `config.json` that are about rotary embeddings, in the newer form (`rope_parameters`) and
/// the older one.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RopeFields {
    #[serde(default)]
    pub rope_parameters: Option<Value>,
    #[serde(default)]
    pub rope_scaling: Option<Value>,
    #[serde(default)]
    pub rope_theta: Option<f64>,
    #[serde(default)]
    pub partial_rotary_factor: Option<f64>,
    #[serde(default)]
    pub original_max_position_embeddings: Option<f64>,
}

/// The parameters of one rotary embedding.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RopeParameters {
    #[serde(default)]
    pub rope_type: Option<String>,
    /// An older name of `rope_type`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub rope_theta: Option<f64>,
    #[serde(default)]
    pub partial_rotary_factor: Option<f64>,
    #[serde(default)]
    factor: Option<f64>,
    #[serde(default)]
    low_freq_factor: Option<f64>,
    #[serde(default)]
    high_freq_factor: Option<f64>,
    #[serde(default)]
    original_max_position_embeddings: Option<f64>,
    #[serde(default)]
    attention_factor: Option<f64>,
    #[serde(default)]
    beta_fast: Option<f64>,
    #[serde(default)]
    beta_slow: Option<f64>,
    #[serde(default)]
    mscale: Option<f64>,
    #[serde(default)]
    mscale_all_dim: Option<f64>,
    #[serde(default)]
    truncate: Option<bool>,
}

impl RopeFields {
    /// The parameters that hold for all layers.
    ///
    /// # Errors
    /// If there is one that the engine does not know.
    pub fn parameters(&self, default_theta: f64) -> Result<RopeParameters> {
        let mut found = self.own_parameters()?;
        found.rope_theta = found.rope_theta.or(self.rope_theta).or(Some(default_theta));
        found.partial_rotary_factor = found.partial_rotary_factor.or(self.partial_rotary_factor);
        // A field outside the parameters takes precedence.
        if let Some(original) = self.original_max_position_embeddings {
            found.original_max_position_embeddings = Some(original);
        }
        Ok(found)
    }

    /// What the newer or the older field alone says. An empty one says nothing.
    fn own_parameters(&self) -> Result<RopeParameters> {
        let scaling = self.rope_scaling.as_ref().filter(|scaling| !is_empty(scaling));
        match (scaling, &self.rope_parameters) {
            (Some(scaling), _) => RopeParameters::read("rope_scaling", scaling),
            (None, Some(parameters)) => RopeParameters::read("rope_parameters", parameters),
            (None, None) => Ok(RopeParameters::default()),
        }
    }
}

/// Dimensions of a head; more are mistakes, and there is a frequency for each two.
const WIDEST_HEAD: usize = 1 << 16;

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

impl RopeParameters {
    /// From a field of a configuration.
    ///
    /// # Errors
    /// If there is a parameter that the engine does not know.
    pub fn read(name: &'static str, value: &Value) -> Result<Self> {
        Self::deserialize(value).or_else(|error| {
            let need = format!("the native engine does not compute this ({error})");
            checks::refuse(name, value, need)
        })
    }

    /// Checks that all dimensions of a head are turned.
    ///
    /// # Errors
    /// If some are not.
    pub fn check_whole(&self) -> Result<()> {
        match self.partial_rotary_factor.filter(|&part| part != 1.0) {
            Some(part) => checks::refuse("partial_rotary_factor", part, checks::OTHER),
            None => Ok(()),
        }
    }

    /// The embedding of heads of which `width` dimensions are turned, for `context` positions.
    ///
    /// # Errors
    /// For a type that the engine does not compute, and numbers out of range.
    pub fn rotary(&self, width: usize, context: usize) -> Result<Rotary> {
        checks::sizes(&[("head_dim", width, WIDEST_HEAD)])?;
        if !width.is_multiple_of(2) {
            return checks::refuse("head_dim", width, "rotary embeddings need an even one");
        }
        let theta = self.rope_theta.unwrap_or(10_000.0);
        within("rope_theta", theta, 1.001, 1e12)?;
        let kind = self.rope_type.as_ref().or(self.kind.as_ref());
        let powers = powers(theta as f32, width);
        let mut scale = 1.0;
        let plain = powers.iter().map(|power| 1.0 / power);
        let frequencies: Vec<f32> = match kind.map_or("default", String::as_str) {
            "default" => plain.collect(),
            "linear" => {
                let factor = self.factor()? as f32;
                plain.map(|frequency| frequency / factor).collect()
            }
            "llama3" => {
                let original = self.original(context)?;
                let (factor, low) = (self.factor()?, self.low_freq_factor.unwrap_or(0.0));
                let high = self.high_freq_factor.unwrap_or(0.0);
                within("rope_parameters.low_freq_factor", low, 1e-6, 1e6)?;
                within("rope_parameters.high_freq_factor", high, 1e-6, 1e6)?;
                if high <= low {
                    let need = "it must be above low_freq_factor";
                    return checks::refuse("rope_parameters.high_freq_factor", high, need);
                }
                plain.map(|frequency| llama3(frequency, factor, low, high, original)).collect()
            }
            "yarn" => {
                let original = self.original(context)?;
                let factor = match self.factor {
                    Some(_) => self.factor()?,
                    None => context as f64 / original,
                };
                scale = self.yarn_scale(factor)?;
                self.yarn(&powers, theta, factor, original)?
            }
            other => return checks::refuse("rope_type", other, checks::OTHER),
        };
        let most = (LARGEST_ANGLE / context as f64) as f32;
        if let Some(bad) = frequencies.iter().find(|f| !(0.0..=most).contains(*f)) {
            return checks::refuse("rope_parameters.factor", bad, "the angles are too large");
        }
        Ok(Rotary { frequencies, scale: scale as f32 })
    }

    fn factor(&self) -> Result<f64> {
        let factor = self.factor.unwrap_or(0.0);
        within("rope_parameters.factor", factor, 1e-3, 1e6)?;
        Ok(factor)
    }

    /// The context that the model was first trained with.
    fn original(&self, context: usize) -> Result<f64> {
        let original = self.original_max_position_embeddings.unwrap_or(context as f64);
        within("original_max_position_embeddings", original, 1.0, LARGEST as f64)?;
        Ok(original)
    }

    /// What yarn multiplies sines and cosines by.
    fn yarn_scale(&self, factor: f64) -> Result<f64> {
        let scale_of = |mscale: f64| {
            if factor <= 1.0 { 1.0 } else { 0.1 * mscale * ln_real(factor) + 1.0 }
        };
        let given = |x: Option<f64>| x.filter(|&x| x != 0.0);
        let scale = match (self.attention_factor, given(self.mscale), given(self.mscale_all_dim)) {
            (Some(factor), ..) => factor,
            (None, Some(mscale), Some(all)) => scale_of(mscale) / scale_of(all),
            _ => scale_of(1.0),
        };
        within("rope_parameters.attention_factor", scale, 1e-6, 1e6)?;
        Ok(scale)
    }

    /// Frequencies between those of the trained context, for fast pairs, and those divided by the factor, for
    /// slow ones.
    fn yarn(&self, powers: &[f32], theta: f64, factor: f64, original: f64) -> Result<Vec<f32>> {
        let given = |x: Option<f64>, default| x.filter(|&x| x != 0.0).unwrap_or(default);
        let width = 2 * powers.len();
        let mut ends = [given(self.beta_fast, 32.0), given(self.beta_slow, 1.0)];
        for (end, name) in
            ends.iter_mut().zip(["rope_parameters.beta_fast", "rope_parameters.beta_slow"])
        {
            within(name, *end, 1e-6, 1e6)?;
            // The pair that turns so often within the trained context.
            let turns = *end * 2.0 * PI;
            *end = width as f64 * ln_real(original / turns) / (2.0 * ln_real(theta));
        }
        let [mut low, mut high] = ends;
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min((width - 1) as f64));
        if low == high {
            high += 0.001;
        }
        let (low, range, factor) = (low as f32, (high - low) as f32, factor as f32);
        Ok(powers
            .iter()
            .enumerate()
            .map(|(pair, power)| {
                let ramp = ((pair as f32 - low) / range).clamp(0.0, 1.0);
                let kept = 1.0 - ramp;
                1.0 / (factor * power) * (1.0 - kept) + 1.0 / power * kept
            })
            .collect())
    }
}

/// theta^(2 i / width) for each pair i.
fn powers(theta: f32, width: usize) -> Vec<f32> {
    let log = ln_real(f64::from(theta));
    (0..width / 2).map(|i| exp(f64::from((2 * i) as f32 / width as f32) * log) as f32).collect()
}

/// A frequency with the scaling of Llama 3: as it is where the wavelength is short, divided by the factor
/// where it is long, and between the two otherwise.
fn llama3(frequency: f32, factor: f64, low: f64, high: f64, original: f64) -> f32 {
    let wavelength = (2.0 * PI) as f32 / frequency;
    let divided = frequency / factor as f32;
    if wavelength > (original / low) as f32 {
        divided
    } else if wavelength < (original / high) as f32 {
        frequency
    } else {
        let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
        (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
    }
}

fn within(name: &'static str, value: f64, least: f64, most: f64) -> Result<()> {
    if value >= least && value <= most {
        return Ok(());
    }
    checks::refuse(name, value, "missing or out of range")
}
