//! What a caller asks of the sampler, and whether it can be.

use crate::error::{Error, Result};

/// The sampling parameters, not yet checked. The order in which they act is that of the fields;
/// each truncation sees the renormalised survivors of the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Divides the logits; 0 is the greedy limit.
    pub temperature: f64,
    /// Chooses the temperature by the row's entropy instead.
    pub dynamic_temperature: Option<DynamicTemperature>,
    /// Keep logits within so many standard deviations of the maximum (Tang et al., 2024).
    pub top_n_sigma: Option<f64>,
    /// Keep exactly this many tokens.
    pub top_k: Option<i64>,
    /// Keep the smallest set with this mass (Holtzman et al., 2020).
    pub top_p: Option<f64>,
    /// Keep probabilities of at least this share of the largest (Nguyen et al., 2024).
    pub min_p: Option<f64>,
    /// Keep the tokens of the most typical surprisal, with this mass (Meister et al., 2023).
    pub typical_p: Option<f64>,
    /// Keep probabilities of at least this (Hewitt et al., 2022).
    pub epsilon_cutoff: Option<f64>,
    /// As epsilon, lowered where the entropy is high (Hewitt et al., 2022).
    pub eta_cutoff: Option<f64>,
    /// Keep surprisals below a bound that follows the surprisals drawn (Basu et al., 2021).
    pub mirostat: Option<Mirostat>,
    /// Now and then drop all likely tokens but the least likely of them.
    pub xtc: Option<Xtc>,
}

/// Dynamic temperature, as llama.cpp has it: `low + (high - low) * (H / H_max)^exponent`, with H
/// the entropy of the row at temperature 1 and `H_max` that of its tokens all alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicTemperature {
    /// Where the model is sure.
    pub low: f64,
    /// Where it knows nothing.
    pub high: f64,
    /// Bends the way between the two.
    pub exponent: f64,
}

/// Mirostat 2.0: tokens of a surprisal above `mu` bits are cut, and `mu` follows what was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat {
    /// The surprisal aimed at, in bits.
    pub tau: f64,
    /// How fast `mu` follows.
    pub eta: f64,
}

/// Exclude top choices, as llama.cpp and text-generation-webui have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    /// How often it acts.
    pub probability: f64,
    /// What counts as likely.
    pub threshold: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            dynamic_temperature: None,
            top_n_sigma: None,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            epsilon_cutoff: None,
            eta_cutoff: None,
            mirostat: None,
            xtc: None,
        }
    }
}

impl Params {
    /// Whether the first cut is by the mass of the whole row.
    pub(crate) fn begins_with_mass(&self) -> bool {
        self.temperature > 0.0
            && self.dynamic_temperature.is_none()
            && self.top_n_sigma.is_none()
            && self.top_k.is_none()
            && self.top_p.is_some_and(|p| p < 1.0)
    }

    /// Whether every value is in its range.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::Temperature(self.temperature));
        }
        if let Some(k) = self.top_k
            && k < 1
        {
            return Err(Error::TopK(k));
        }
        let probabilities = [
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("typical_p", self.typical_p),
            ("epsilon_cutoff", self.epsilon_cutoff),
            ("eta_cutoff", self.eta_cutoff),
            ("xtc_probability", self.xtc.map(|xtc| xtc.probability)),
            ("xtc_threshold", self.xtc.map(|xtc| xtc.threshold)),
        ];
        for (name, value) in probabilities {
            if let Some(value) = value
                && !(0.0..=1.0).contains(&value)
            {
                return Err(Error::Probability { name, value });
            }
        }
        let not_negative = [
            ("top_n_sigma", self.top_n_sigma),
            ("dynamic_temperature's low", self.dynamic_temperature.map(|d| d.low)),
            ("dynamic_temperature's high", self.dynamic_temperature.map(|d| d.high)),
            ("dynamic_temperature's exponent", self.dynamic_temperature.map(|d| d.exponent)),
            ("mirostat's tau", self.mirostat.map(|m| m.tau)),
            ("mirostat's eta", self.mirostat.map(|m| m.eta)),
        ];
        for (name, value) in not_negative {
            if let Some(value) = value
                && !(value.is_finite() && value >= 0.0)
            {
                return Err(Error::Negative { name, value });
            }
        }
        match self.dynamic_temperature {
            Some(DynamicTemperature { low, high, .. }) if low > high => {
                Err(Error::TemperatureRange { low, high })
            }
            Some(_) if self.temperature != 1.0 => Err(Error::TwoTemperatures(self.temperature)),
            _ => Ok(()),
        }
    }
}
