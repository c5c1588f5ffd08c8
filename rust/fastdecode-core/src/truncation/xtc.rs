//! XTC, "exclude top choices".

use super::context::DrawContext;
use super::rule::{Effect, Need, Rule, probability};
use super::survivors::Survivors;
use crate::error::Result;
use crate::law::share::target_mass;
use crate::parameter::{Kind, Parameter, Setting, Value};
use crate::rng::key::Purpose;

/// With a given probability, drops all tokens that reach a threshold but the least likely of them,
/// as in llama.cpp and text-generation-webui (p-e-w, 2024). Both numbers between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    /// How often it acts.
    pub probability: f64,
    /// The probability from which on a token is a top choice.
    pub threshold: f64,
}

impl Rule for Xtc {
    type Value = Self;

    const PARAMETER: Parameter = Parameter {
        name: "xtc",
        kind: Kind::Numbers { names: &["probability", "threshold"], required: 2 },
        default: Value::Nothing,
        off: Value::Nothing,
        range: "both between 0 and 1",
        help: "Excludes top choices, as in llama.cpp. With this probability, all tokens that reach \
               the threshold are dropped but the least likely of them.",
    };

    const NEED: Need = Need::Key;

    fn check(value: Self) -> Result<()> {
        probability("xtc's probability", value.probability)?;
        probability("xtc's threshold", value.threshold)
    }

    fn effect(_: Self) -> Effect {
        Effect::Changes
    }

    fn apply(value: Self, survivors: &mut Survivors, context: &DrawContext) {
        if context.key.toss(Purpose::Xtc) < value.probability {
            let least = target_mass(value.threshold, survivors.total());
            survivors.drop_before(least);
        }
    }

    fn tosses(value: Self) -> bool {
        value.probability > 0.0 && value.probability < 1.0
    }
}

impl Setting for Xtc {
    fn read(value: Value) -> Option<Self> {
        let Value::Numbers(numbers) = value else { return None };
        let [probability, threshold] = numbers[..] else { return None };
        Some(Self { probability, threshold })
    }

    fn write(&self) -> Value {
        Value::Numbers(vec![self.probability, self.threshold])
    }
}
