//! Epsilon and eta sampling: lower bounds on probabilities.

use super::context::DrawContext;
use super::rule::{Effect, Rule, probability};
use super::survivors::Survivors;
use crate::error::Result;
use crate::law::share::target_mass;
use crate::math::exp::exp;
use crate::parameter::{Kind, Parameter, Value};

/// Keeps probabilities of at least `epsilon` (Hewitt et al., "Truncation sampling as language model
/// desmoothing", 2022). Between 0 and 1.
#[derive(Debug)]
pub struct EpsilonCutoff;

impl Rule for EpsilonCutoff {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "epsilon_cutoff",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "between 0 and 1",
        help: "Keeps probabilities of at least this (Hewitt et al., 2022).",
    };

    fn check(epsilon: f64) -> Result<()> {
        probability("epsilon_cutoff", epsilon)
    }

    fn effect(_: f64) -> Effect {
        Effect::Changes
    }

    fn apply(epsilon: f64, survivors: &mut Survivors, _: &DrawContext) {
        let least = target_mass(epsilon, survivors.total());
        survivors.keep_weights(least);
    }
}

/// Keeps probabilities of at least `min(eta, sqrt(eta) * exp(-H))`, H the entropy in nats (Hewitt
/// et al., 2022). Between 0 and 1.
#[derive(Debug)]
pub struct EtaCutoff;

impl Rule for EtaCutoff {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "eta_cutoff",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "between 0 and 1",
        help: "Keeps probabilities of at least this, or of less where the entropy is high \
               (Hewitt et al., 2022).",
    };

    fn check(eta: f64) -> Result<()> {
        probability("eta_cutoff", eta)
    }

    fn effect(_: f64) -> Effect {
        Effect::Changes
    }

    fn apply(eta: f64, survivors: &mut Survivors, _: &DrawContext) {
        let bound = eta.min(eta.sqrt() * exp(-survivors.entropy().nats()));
        let least = target_mass(bound, survivors.total());
        survivors.keep_weights(least);
    }
}
