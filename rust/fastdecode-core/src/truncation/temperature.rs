//! The temperature: the scale that a row's weights are measured on.

use super::context::DrawContext;
use super::rule::{Effect, Rule, not_negative};
use super::survivors::Survivors;
use crate::error::{Error, Result};
use crate::law::weight::Scale;
use crate::math::exp::exp;
use crate::math::ln::ln;
use crate::parameter::{Kind, Parameter, Setting, Value};

/// Divides the logits by a number. Finite and at least 0; 0 is the greedy limit, where the
/// likeliest token alone is left.
#[derive(Debug)]
pub struct Temperature;

impl Rule for Temperature {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "temperature",
        kind: Kind::Number,
        default: Value::Number(1.0),
        off: Value::Number(1.0),
        range: "finite and at least 0",
        help: "Divides the logits. 0 is the greedy limit (the largest logit, ties to the lower \
               token id), 1 leaves the model as it is.",
    };

    fn check(temperature: f64) -> Result<()> {
        if temperature.is_finite() && temperature >= 0.0 {
            Ok(())
        } else {
            Err(Error::Temperature(temperature))
        }
    }

    fn effect(temperature: f64) -> Effect {
        if temperature == 1.0 { Effect::Off } else { Effect::Scales(temperature) }
    }

    fn apply(temperature: f64, survivors: &mut Survivors, _: &DrawContext) {
        set(survivors, temperature);
    }
}

/// Dynamic temperature, as in llama.cpp: `low + (high - low) * (H / H_max)^exponent` instead of a
/// fixed one, with H the entropy of the row at temperature 1 and `H_max` that of the uniform
/// distribution on its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicTemperature {
    /// The temperature where the entropy is 0.
    pub low: f64,
    /// The temperature where the entropy is as large as it can be.
    pub high: f64,
    /// The shape of the curve between the two.
    pub exponent: f64,
}

impl Rule for DynamicTemperature {
    type Value = Self;

    const PARAMETER: Parameter = Parameter {
        name: "dynamic_temperature",
        kind: Kind::Numbers { names: &["low", "high", "exponent"], required: 2 },
        default: Value::Nothing,
        off: Value::Nothing,
        range: "low from 0 to high, exponent at least 0, all finite",
        help: "Chooses the temperature by the row's entropy, instead of `temperature`. It is low \
               where the entropy is 0 and high where it is largest, as in llama.cpp; the exponent \
               (default 1) is the shape of the curve between.",
    };

    fn check(value: Self) -> Result<()> {
        let Self { low, high, exponent } = value;
        not_negative("dynamic_temperature's low", low)?;
        not_negative("dynamic_temperature's high", high)?;
        not_negative("dynamic_temperature's exponent", exponent)?;
        if low > high { Err(Error::TemperatureRange { low, high }) } else { Ok(()) }
    }

    fn effect(_: Self) -> Effect {
        Effect::Changes
    }

    fn apply(value: Self, survivors: &mut Survivors, _: &DrawContext) {
        let temperature = value.temperature(survivors);
        set(survivors, temperature);
    }
}

impl DynamicTemperature {
    fn temperature(self, survivors: &mut Survivors) -> f64 {
        let entropy = survivors.entropy();
        let most = ln(entropy.tokens);
        if most == 0.0 {
            return self.low;
        }
        let share = (entropy.nats() / most).min(1.0);
        let bent = if share == 0.0 { 0.0 } else { exp(self.exponent * ln_of(share)) };
        self.low + (self.high - self.low) * bent
    }
}

impl Setting for DynamicTemperature {
    fn read(value: Value) -> Option<Self> {
        let Value::Numbers(numbers) = value else { return None };
        match numbers[..] {
            [low, high] => Some(Self { low, high, exponent: 1.0 }),
            [low, high, exponent] => Some(Self { low, high, exponent }),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Numbers(vec![self.low, self.high, self.exponent])
    }
}

fn set(survivors: &mut Survivors, temperature: f64) {
    if temperature == 0.0 {
        survivors.settle_for_likeliest();
    } else {
        survivors.rescale(Scale::new(temperature));
    }
}

/// ln of a fraction, by that of an integer.
pub(crate) fn ln_of(fraction: f64) -> f64 {
    let unit = 1u64 << 53;
    ln(((fraction * unit as f64) as u64).max(1)) - ln(unit)
}
