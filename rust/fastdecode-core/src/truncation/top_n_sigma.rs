//! Top-n-sigma.

use super::context::DrawContext;
use super::rule::{Effect, Rule, not_negative};
use super::survivors::Survivors;
use crate::error::Result;
use crate::parameter::{Kind, Parameter, Value};
use fastdecode_simd::LANES;

/// Keeps logits of at least `max - n * sigma`, sigma the standard deviation of the row's finite
/// logits (Tang et al., "Top-n-sigma: not all logits are you need", 2024). 0 keeps the largest and
/// what ties with it, where llama.cpp takes 0 and below as off.
#[derive(Debug)]
pub struct TopNSigma;

impl Rule for TopNSigma {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "top_n_sigma",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Nothing,
        range: "finite and at least 0",
        help: "Keeps logits within this many standard deviations of the largest (Tang et al., \
               2024). 0 keeps only the largest and its ties; in llama.cpp, 0 is off.",
    };

    fn check(n: f64) -> Result<()> {
        not_negative("top_n_sigma", n)
    }

    fn effect(_: f64) -> Effect {
        Effect::Changes
    }

    fn apply(n: f64, survivors: &mut Survivors, _: &DrawContext) {
        let (row, max) = survivors.logits();
        survivors.keep_logits(f64::from(max) - n * deviation(row, max));
    }
}

/// The standard deviation of a row's finite logits.
pub(crate) fn deviation(row: &[f32], max: f32) -> f64 {
    let (count, sum, squares) = spread(row, max);
    let mean = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt()
}

/// The number of finite logits, the sum of their distances from the maximum, and that of the
/// squares. Each lane adds up its own in order, and banned tokens add zero, so neither the
/// instruction set nor padding changes a bit.
fn spread(row: &[f32], max: f32) -> (f64, f64, f64) {
    let mut counts = [0.0f64; LANES];
    let mut sums = [0.0f64; LANES];
    let mut squares = [0.0f64; LANES];
    for chunk in row.chunks(LANES) {
        for (lane, &logit) in chunk.iter().enumerate() {
            let finite = logit > f32::NEG_INFINITY;
            let distance = if finite { f64::from(max) - f64::from(logit) } else { 0.0 };
            counts[lane] += if finite { 1.0 } else { 0.0 };
            sums[lane] += distance;
            squares[lane] += distance * distance;
        }
    }
    (counts.iter().sum(), sums.iter().sum(), squares.iter().sum())
}
