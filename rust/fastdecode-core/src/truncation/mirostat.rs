//! Mirostat 2.0.

use super::context::DrawContext;
use super::rule::{Effect, Need, Rule, not_negative};
use super::survivors::Survivors;
use crate::error::Result;
use crate::law::share::target_mass;
use crate::math::exp::exp;
use crate::parameter::{Kind, Parameter, Setting, Value};

/// Keeps surprisals of at most `mu` bits, and moves `mu` after each draw so that the surprisals
/// drawn approach `tau` (Basu et al., "Mirostat: a neural text decoding algorithm that directly
/// controls perplexity", 2021). Both finite and at least 0; `mu` starts at `2 tau`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat {
    /// The surprisal aimed at, in bits.
    pub tau: f64,
    /// The learning rate: the share of the difference from `tau` that `mu` moves by.
    pub eta: f64,
}

impl Mirostat {
    /// The bound at the start of a sequence, in bits.
    #[must_use]
    pub fn first_mu(self) -> f64 {
        2.0 * self.tau
    }

    /// The bound in this state, in bits: NaN, like None, is the start of a sequence.
    fn bound(self, mu: Option<f64>) -> f64 {
        mu.filter(|mu| !mu.is_nan()).unwrap_or(self.first_mu())
    }

    /// The bound after a token of this surprisal, in bits.
    #[must_use]
    pub fn next_mu(self, mu: Option<f64>, surprisal: f64) -> f64 {
        self.bound(mu) - self.eta * (surprisal - self.tau)
    }
}

impl Rule for Mirostat {
    type Value = Self;

    const PARAMETER: Parameter = Parameter {
        name: "mirostat",
        kind: Kind::Numbers { names: &["tau", "eta"], required: 2 },
        default: Value::Nothing,
        off: Value::Nothing,
        range: "both finite and at least 0",
        help: "Mirostat 2.0 (Basu et al., 2021): aims at a surprisal of tau bits, at the learning \
               rate eta.",
    };

    const NEED: Need = Need::State;

    fn check(value: Self) -> Result<()> {
        not_negative("mirostat's tau", value.tau)?;
        not_negative("mirostat's eta", value.eta)
    }

    fn effect(_: Self) -> Effect {
        Effect::Changes
    }

    fn apply(value: Self, survivors: &mut Survivors, context: &DrawContext) {
        let mu = value.bound(context.mu);
        let share = exp(-mu * std::f64::consts::LN_2).min(1.0);
        let least = target_mass(share, survivors.total());
        survivors.keep_weights(least);
    }
}

impl Setting for Mirostat {
    fn read(value: Value) -> Option<Self> {
        let Value::Numbers(numbers) = value else { return None };
        let [tau, eta] = numbers[..] else { return None };
        Some(Self { tau, eta })
    }

    fn write(&self) -> Value {
        Value::Numbers(vec![self.tau, self.eta])
    }
}
