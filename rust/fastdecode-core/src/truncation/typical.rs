//! Locally typical sampling.

use super::context::DrawContext;
use super::rule::{Effect, Rule, probability};
use super::survivors::Survivors;
use crate::error::Result;
use crate::parameter::{Kind, Parameter, Value};

/// Keeps the tokens whose surprisal is nearest to the entropy, until they have the mass
/// `typical_p`; ties are all kept (Meister et al., "Locally typical sampling", 2023). Between 0 and
/// 1; 1 keeps all.
#[derive(Debug)]
pub struct Typical;

impl Rule for Typical {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "typical_p",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Number(1.0),
        range: "between 0 and 1",
        help: "Keeps the tokens whose surprisal is nearest to the entropy, up to this mass, with \
               all ties (Meister et al., 2023).",
    };

    fn check(p: f64) -> Result<()> {
        probability("typical_p", p)
    }

    fn effect(p: f64) -> Effect {
        if p >= 1.0 { Effect::Off } else { Effect::Changes }
    }

    fn apply(p: f64, survivors: &mut Survivors, _: &DrawContext) {
        survivors.keep_typical(p);
    }
}
