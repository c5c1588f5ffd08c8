//! Top-p, or nucleus sampling.

use super::context::DrawContext;
use super::rule::{Effect, Rule, probability};
use super::survivors::Survivors;
use crate::error::Result;
use crate::parameter::{Kind, Parameter, Value};

/// Keeps the smallest set of tokens, likeliest first, whose mass is at least `p` (Holtzman et al.,
/// "The curious case of neural text degeneration", 2020). The token with which the mass reaches `p`
/// is the last in the set, whether it reaches `p` exactly or exceeds it; the comparison is exact, in
/// integers. Between 0 and 1; 1 keeps all, 0 the likeliest.
#[derive(Debug)]
pub struct TopP;

impl Rule for TopP {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "top_p",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Number(1.0),
        range: "between 0 and 1",
        help: "Keeps the smallest set of tokens, likeliest first, whose probability is at least p \
               (Holtzman et al., 2020). The token with which the sum reaches p, exactly or beyond, \
               is the last one kept; of equally likely tokens, those with lower ids.",
    };

    fn check(p: f64) -> Result<()> {
        probability("top_p", p)
    }

    fn effect(p: f64) -> Effect {
        if p >= 1.0 { Effect::Off } else { Effect::KeepsMass }
    }

    fn apply(p: f64, survivors: &mut Survivors, _: &DrawContext) {
        survivors.keep_mass(p);
    }
}
