//! Top-a.

use super::context::DrawContext;
use super::rule::{Effect, Rule, probability};
use super::survivors::Survivors;
use crate::error::Result;
use crate::law::share::{ceil_shifted, dyadic};
use crate::parameter::{Kind, Parameter, Value};

/// Keeps tokens with a probability of at least `top_a * p_max^2`, `p_max` the largest: the surer the
/// model is of one token, the more is cut (`BlinkDL`, RWKV-LM, 2021; as in `KoboldAI` and
/// text-generation-webui). Between 0 and 1; 0 keeps all.
///
/// Of integer weights: with `w_max` the largest and W their sum, a weight is kept from
/// `ceil(top_a * w_max^2 / W)` on, exactly.
#[derive(Debug)]
pub struct TopA;

impl Rule for TopA {
    type Value = f64;

    const PARAMETER: Parameter = Parameter {
        name: "top_a",
        kind: Kind::Number,
        default: Value::Nothing,
        off: Value::Number(0.0),
        range: "between 0 and 1",
        help: "Keeps tokens with a probability of at least this times the square of the largest \
               (BlinkDL, 2021; as in text-generation-webui).",
    };

    fn check(a: f64) -> Result<()> {
        probability("top_a", a)
    }

    fn effect(a: f64) -> Effect {
        if a == 0.0 { Effect::Off } else { Effect::Changes }
    }

    fn apply(a: f64, survivors: &mut Survivors, _: &DrawContext) {
        let least = least_weight(a, survivors.largest_weight(), survivors.total());
        survivors.keep_weights(least);
    }
}

/// `ceil(a * largest^2 / total)`, exactly, and at least one.
fn least_weight(a: f64, largest: u64, total: u64) -> u64 {
    let (mantissa, shift) = dyadic(a);
    let (mantissa, total) = (u128::from(mantissa), u128::from(total));
    // largest^2 = quotient * total + rest: neither product below has more than 117 bits.
    let square = u128::from(largest) * u128::from(largest);
    let (quotient, rest) = (square / total, square % total);
    let floor = mantissa * quotient + mantissa * rest / total;
    let exact = (mantissa * rest).is_multiple_of(total);
    // An odd number of half units stands for the fraction that the division leaves.
    let least = ceil_shifted(floor << 1 | u128::from(!exact), shift + 1);
    (least as u64).max(1)
}

#[cfg(test)]
mod tests {
    use fastdecode_simd::Level;

    use super::least_weight;
    use crate::truncation::survivors::SurvivorWorkspace;
    use crate::truncation::{DrawContext, Params};

    #[test]
    fn the_least_weight_is_the_exact_ceiling() {
        assert_eq!(least_weight(1.0, 10, 10), 10);
        assert_eq!(least_weight(0.5, 10, 10), 5);
        assert_eq!(least_weight(0.5, 10, 20), 3);
        assert_eq!(least_weight(0.5, 10, 25), 2);
        assert_eq!(least_weight(0.5, 10, 26), 2);
        assert_eq!(least_weight(0.5, 10, 51), 1);
        assert_eq!(least_weight(1.0, 1 << 42, 1 << 42), 1 << 42);
        assert_eq!(least_weight(1.0, 1 << 42, u64::MAX), (1 << 20) + 1);
        assert_eq!(least_weight(f64::MIN_POSITIVE, 1 << 42, u64::MAX), 1);
        assert_eq!(least_weight(5e-324, 1, 1), 1);
        // The double 0.1 is a little more than a tenth, 0.7 a little less than seven.
        assert_eq!(least_weight(0.1, 10, 10), 2);
        assert_eq!(least_weight(0.7, 10, 10), 7);
    }

    fn weights(params: Params, level: Level, row: &[f32]) -> Vec<u64> {
        let mut workspace = SurvivorWorkspace::default();
        let context = DrawContext::default();
        params
            .survivors(level, row, &context, &mut workspace)
            .unwrap()
            .into_law()
            .0
            .weights()
            .unwrap()
    }

    /// Every token whose weight reaches the bound, in short rows and in long ones, with ties.
    #[test]
    fn keeps_the_tokens_that_reach_the_bound() {
        let mut cut = 0;
        for len in [1, 2, 17, 300, 20_000] {
            let row: Vec<f32> = (0..len).map(|i| ((i * 7919) % 211) as f32 * -0.07).collect();
            for before in [
                Params::default(),
                Params { temperature: 0.6, top_k: Some(150), ..Params::default() },
                Params { top_p: Some(0.9), min_p: Some(0.01), ..Params::default() },
            ] {
                for a in [0.0, 1e-3, 0.2, 0.7, 1.0] {
                    for level in Level::available() {
                        let all = weights(before, level, &row);
                        let (largest, total) = (all[0], all.iter().sum());
                        let least = if a == 0.0 { 1 } else { least_weight(a, largest, total) };
                        let expected: Vec<u64> =
                            all.iter().map(|&w| if w >= least { w } else { 0 }).collect();
                        let top_a = Params { top_a: Some(a), ..before };
                        assert_eq!(weights(top_a, level, &row), expected, "{len} {a} {level:?}");
                        cut += usize::from(expected != all);
                    }
                }
            }
        }
        assert!(cut > 10);
    }
}
