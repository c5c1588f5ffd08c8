//! Min-p.

use super::context::DrawContext;
use super::rule::{Effect, Rule, probability};
use super::survivors::Survivors;
use crate::error::Result;
use crate::law::share::target_mass;
use crate::parameter::{Kind, Parameter, Value};

/// Keeps tokens with a probability of at least `min_p * p_max`, `p_max` the largest (Nguyen et al.,
/// "Turning up the heat: min-p sampling", 2024). Between 0 and 1.
#[derive(Debug)]
pub struct MinP;

impl Rule for MinP {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "min_p",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "between 0 and 1",
        help: "Keeps tokens at least this many times as likely as the likeliest (Nguyen et al., \
               2024).",
    };

    fn check(p: f64) -> Result<()> {
        probability("min_p", p)
    }

    fn effect(_: f64) -> Effect {
        Effect::Changes
    }

    fn apply(p: f64, survivors: &mut Survivors, _: &DrawContext) {
        let least = target_mass(p, survivors.largest_weight());
        survivors.keep_weights(least);
    }
}
