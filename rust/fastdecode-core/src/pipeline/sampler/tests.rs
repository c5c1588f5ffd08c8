//! The whole map from tickets to tokens, against an independent implementation of the pipeline.

use fastdecode_simd::Level;
use proptest::prelude::*;

use super::Sampler;
use crate::error::Error;
use crate::law::entropy::{Entropy, depth};
use crate::law::share::target_mass;
use crate::law::weight::{Scale, WEIGHT_BITS, weight};
use crate::math::exp::exp;
use crate::math::ln::ln;
use crate::rng::key::{Key, Purpose};
use crate::row::order::Candidate;
use crate::truncation::DrawContext;
use crate::truncation::temperature::ln_of;
use crate::truncation::top_n_sigma::deviation;
use crate::truncation::{DynamicTemperature, Mirostat, Params, Xtc};
use crate::workspace::Workspace;

fn sampler(temperature: f64, top_k: Option<i64>, top_p: Option<f64>) -> Sampler {
    Sampler::new(Params { temperature, top_k, top_p, ..Params::default() }).unwrap()
}

/// Logits with ties, near-ties, bans and spreads of every size.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let ordinary = -8.0f32..8.0;
    let coarse = (-4i8..4).prop_map(f32::from);
    let banned = Just(f32::NEG_INFINITY);
    let extreme = prop_oneof![Just(f32::MIN), Just(f32::MAX), Just(-0.0), Just(1e-42)];
    let any = prop_oneof![6 => ordinary.boxed(), 6 => coarse.boxed(), 1 => banned.boxed(), 1 => extreme.boxed()];
    prop::collection::vec(any, 1..2000)
        .prop_filter("one token is left", |row| row.iter().any(|x| x.is_finite()))
}

fn share() -> impl Strategy<Value = Option<f64>> {
    prop::option::weighted(0.25, prop_oneof![Just(0.0), Just(1.0), 0.0..1.0, 0.0..0.01])
}

fn samplers() -> impl Strategy<Value = Sampler> {
    let temperature = prop_oneof![Just(0.0), Just(1.0), 0.01..3.0, Just(1e-20), Just(1e20)];
    let dynamic = prop::option::weighted(0.1, (0.0..1.0, 0.0..2.0, 0.0..2.0));
    let top_k = prop::option::of(prop_oneof![1i64..300, Just(i64::MAX)]);
    let sigma = prop::option::weighted(0.2, 0.0..4.0);
    let mirostat = prop::option::weighted(0.2, (0.0..8.0, 0.0..1.0));
    let xtc = prop::option::weighted(0.2, (0.0..1.0, 0.0..0.6));
    let shares = (share(), share(), share(), share(), share());
    (temperature, dynamic, top_k, sigma, mirostat, xtc, shares).prop_map(
        |(temperature, dynamic, top_k, top_n_sigma, mirostat, xtc, shares)| {
            let dynamic_temperature = dynamic.map(|(low, more, exponent)| DynamicTemperature {
                low,
                high: low + more,
                exponent,
            });
            let mut params = Params {
                temperature: if dynamic.is_some() { 1.0 } else { temperature },
                dynamic_temperature,
                top_n_sigma,
                top_k,
                top_p: shares.0,
                min_p: shares.1,
                typical_p: shares.2,
                epsilon_cutoff: shares.3,
                eta_cutoff: shares.4,
                mirostat: mirostat.map(|(tau, eta)| Mirostat { tau, eta }),
                // A rule that is not in `plain_weights` has tests in its own file.
                ..Params::default()
            };
            params.xtc = xtc.map(|(probability, threshold)| Xtc { probability, threshold });
            Sampler::new(params).unwrap()
        },
    )
}

/// The pipeline again, over a sorted list: slow, and every step written independently.
fn plain_weights(sampler: &Sampler, row: &[f32], context: DrawContext) -> Vec<u64> {
    let params = sampler.params;
    let mut left: Vec<_> = row.iter().enumerate().map(|(id, &x)| Candidate::new(x, id)).collect();
    left.sort_by(Candidate::order);
    left.retain(|c| c.logit > f32::NEG_INFINITY);
    let max = left[0].logit;
    let entropy = |left: &[Candidate], scale: Scale| {
        let mut sum = Entropy::default();
        for c in left {
            sum.add(weight(c.logit - max, scale), depth(c.logit - max, scale));
        }
        sum
    };
    let temperature = params.dynamic_temperature.map_or(params.temperature, |d| {
        let entropy = entropy(&left, Scale::new(1.0));
        let share = (entropy.nats() / ln(entropy.tokens).max(1e-300)).min(1.0);
        let bent = if share == 0.0 { 0.0 } else { exp(d.exponent * ln_of(share)) };
        if entropy.tokens == 1 { d.low } else { d.low + (d.high - d.low) * bent }
    });
    let mut weights = vec![0; row.len()];
    if temperature == 0.0 {
        weights[left[0].id as usize] = 1 << WEIGHT_BITS;
        return weights;
    }
    let scale = Scale::new(temperature);
    let of = |c: &Candidate| weight(c.logit - max, scale);
    let mass = |left: &[Candidate]| left.iter().map(of).sum::<u64>();
    let keep_weights = |left: &mut Vec<Candidate>, least: u64| {
        let last = left.iter().rposition(|c| of(c) >= least).unwrap_or(0);
        left.truncate(last + 1);
    };
    if let Some(n) = params.top_n_sigma {
        let bound = f64::from(max) - n * deviation(row, max);
        left.retain(|c| f64::from(c.logit) >= bound);
    }
    left.truncate(params.top_k.map_or(usize::MAX, |k| k as usize));
    if let Some(p) = params.top_p.filter(|&p| p < 1.0) {
        let target = target_mass(p, mass(&left));
        let mut sum = 0;
        let crossing = left.iter().position(|c| {
            sum += of(c);
            sum >= target
        });
        left.truncate(crossing.unwrap() + 1);
    }
    if let Some(p) = params.min_p {
        let least = target_mass(p, of(&left[0]));
        keep_weights(&mut left, least);
    }
    if let Some(p) = params.typical_p.filter(|&p| p < 1.0) {
        let entropy = entropy(&left, scale);
        // Times W, exactly.
        let deviation = |c: &Candidate| {
            let depth = u128::from(depth(c.logit - max, scale));
            (depth * u128::from(entropy.weight)).abs_diff(entropy.moment)
        };
        let target = target_mass(p, mass(&left));
        let mut sorted = left.clone();
        sorted.sort_by_key(deviation);
        let mut sum = 0;
        let crossing = sorted.iter().find(|&c| {
            sum += of(c);
            sum >= target
        });
        let limit = deviation(crossing.unwrap());
        left.retain(|c| of(c) > 0 && deviation(c) <= limit);
    }
    if let Some(epsilon) = params.epsilon_cutoff {
        let least = target_mass(epsilon, mass(&left));
        keep_weights(&mut left, least);
    }
    if let Some(epsilon) = params.eta_cutoff {
        let bound = epsilon.min(epsilon.sqrt() * exp(-entropy(&left, scale).nats()));
        let least = target_mass(bound, mass(&left));
        keep_weights(&mut left, least);
    }
    if let Some(mirostat) = params.mirostat {
        let mu = context.mu.unwrap_or(2.0 * mirostat.tau);
        let share = exp(-mu * std::f64::consts::LN_2).min(1.0);
        let least = target_mass(share, mass(&left));
        keep_weights(&mut left, least);
    }
    if let Some(xtc) = params.xtc.filter(|x| context.key.toss(Purpose::Xtc) < x.probability) {
        let least = target_mass(xtc.threshold, mass(&left));
        let pivot = left.iter().rposition(|c| of(c) >= least).unwrap_or(0);
        left.drain(..pivot);
    }
    for candidate in left {
        weights[candidate.id as usize] = of(&candidate);
    }
    weights
}

fn contexts() -> impl Strategy<Value = DrawContext> {
    (any::<u64>(), prop::option::of(0.0..12.0)).prop_map(|(seed, mu)| DrawContext {
        key: Key { seed, stream: 1, sample: 2, position: 3 },
        mu,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The whole map: each token's first and last ticket fall to it, and to no other.
    #[test]
    fn tickets_map_to_tokens_as_the_weights_say(row in rows(), sampler in samplers(), context in contexts()) {
        let mut workspace = Workspace::default();
        let (law, total) = sampler.law(&row, context, &mut workspace).unwrap();
        let weights = plain_weights(&sampler, &row, context);
        prop_assert_eq!(law.sum(&mut workspace.survivors.sums), total);
        prop_assert_eq!(&law.weights().unwrap(), &weights);
        prop_assert_eq!(total, weights.iter().sum::<u64>());
        prop_assert_eq!(Entropy::of(&law).tokens, weights.iter().filter(|&&w| w > 0).count() as u64);
        let mut cumulative = 0;
        for (id, &weight) in weights.iter().enumerate() {
            prop_assert_eq!(law.weight_of(id), weight);
            if weight > 0 {
                prop_assert_eq!(law.token_at(&workspace.survivors.sums, cumulative), id);
                cumulative += weight;
                prop_assert_eq!(law.token_at(&workspace.survivors.sums, cumulative - 1), id);
            }
        }
    }

    /// Both paths to a token, the short list and the whole row, read the same map.
    #[test]
    fn sample_draws_from_the_law(row in rows(), sampler in samplers(), context in contexts()) {
        let mut workspace = Workspace::default();
        let draw = sampler.sample(&row, context, &mut workspace).unwrap();
        let (law, total) = sampler.law(&row, context, &mut workspace).unwrap();
        law.sum(&mut workspace.survivors.sums);
        let ticket = context.key.ticket(total);
        let again = law.draw(total, ticket, |ticket| law.token_at(&workspace.survivors.sums, ticket));
        prop_assert_eq!(Ok(draw), again);
        prop_assert_eq!(draw.token as usize, law.find(draw.ticket));
        prop_assert_eq!(draw.token as usize, law.token_at(&workspace.survivors.sums, draw.ticket));
        prop_assert!(draw.weight > 0 && draw.logprob() <= 0.0);
    }

    /// The instruction set changes nothing.
    #[test]
    fn levels_agree(row in rows(), sampler in samplers(), context in contexts()) {
        let mut workspace = Workspace::default();
        let portable = sampler.with_level(Level::PORTABLE);
        let weights = portable.weights(&row, context, &mut workspace).unwrap();
        let draw = portable.sample(&row, context, &mut workspace).unwrap();
        for level in Level::available() {
            let other = sampler.with_level(level);
            prop_assert_eq!(&other.weights(&row, context, &mut workspace).unwrap(), &weights);
            prop_assert_eq!(other.sample(&row, context, &mut workspace).unwrap(), draw);
        }
    }

    /// Tokens that cannot be drawn, appended, change nothing.
    #[test]
    fn padding_with_bans_changes_nothing(
        row in rows(), sampler in samplers(), context in contexts(), padding in 0usize..1000,
    ) {
        let mut workspace = Workspace::default();
        let draw = sampler.sample(&row, context, &mut workspace).unwrap();
        let mut padded = row.clone();
        padded.resize(row.len() + padding, f32::NEG_INFINITY);
        prop_assert_eq!(sampler.sample(&padded, context, &mut workspace).unwrap(), draw);
    }
}

#[test]
fn many_samples_are_single_ones() {
    let row: Vec<f32> = (0..700).map(|i| (i % 13) as f32 * 0.5).collect();
    let mut workspace = Workspace::default();
    for sampler in [sampler(1.0, None, None), sampler(0.8, Some(20), Some(0.9))] {
        let key = Key { seed: 5, ..Key::default() };
        let many = sampler.sample_many(&row, key.into(), 50, &mut workspace).unwrap();
        for (sample, draw) in (0..).zip(many) {
            let context = DrawContext::from(Key { sample, ..key });
            assert_eq!(sampler.sample(&row, context, &mut workspace).unwrap(), draw);
        }
    }
}

#[test]
fn refusals_name_the_place() {
    let mut workspace = Workspace::default();
    let sampler = sampler(1.0, None, None);
    let mut try_row = |row: &[f32]| sampler.sample(row, DrawContext::default(), &mut workspace);
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    assert_eq!(try_row(&[]), Err(Error::EmptyVocabulary));
    assert_eq!(try_row(&[0.0, nan]), Err(Error::NotANumber { row: 0, column: 1 }));
    assert_eq!(try_row(&[0.0, -nan]), Err(Error::NotANumber { row: 0, column: 1 }));
    assert_eq!(try_row(&[inf, nan]), Err(Error::PositiveInfinity { row: 0, column: 0 }));
    assert_eq!(try_row(&[-inf, -inf]), Err(Error::NothingAllowed { row: 0 }));
    for position in [0, 15, 16, 63, 64, 200, 256] {
        let mut row = vec![0.0; 257];
        row[position] = nan;
        assert_eq!(try_row(&row), Err(Error::NotANumber { row: 0, column: position }));
    }
}

#[test]
fn parameters_out_of_range() {
    let refused = |params: Params| Sampler::new(params).unwrap_err();
    let fine = Params::default();
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(refused(Params { temperature, ..fine }), Error::Temperature(_)));
    }
    assert_eq!(refused(Params { top_k: Some(0), ..fine }), Error::TopK(0));
    for p in [-0.1, 1.5, 90.0, f64::NAN] {
        for params in [
            Params { top_p: Some(p), ..fine },
            Params { min_p: Some(p), ..fine },
            Params { typical_p: Some(p), ..fine },
            Params { epsilon_cutoff: Some(p), ..fine },
            Params { eta_cutoff: Some(p), ..fine },
            Params { xtc: Some(Xtc { probability: p, threshold: 0.1 }), ..fine },
            Params { xtc: Some(Xtc { probability: 0.5, threshold: p }), ..fine },
        ] {
            assert!(matches!(refused(params), Error::Probability { .. }));
        }
    }
    for x in [-0.1, f64::NAN, f64::INFINITY] {
        for params in [
            Params { top_n_sigma: Some(x), ..fine },
            Params { mirostat: Some(Mirostat { tau: x, eta: 0.1 }), ..fine },
            Params { mirostat: Some(Mirostat { tau: 5.0, eta: x }), ..fine },
        ] {
            assert!(matches!(refused(params), Error::Negative { .. }));
        }
    }
    let dynamic_temperature = Some(DynamicTemperature { low: 1.0, high: 0.5, exponent: 1.0 });
    assert_eq!(
        refused(Params { dynamic_temperature, ..fine }).to_string(),
        "dynamic_temperature goes from 1 to 0.5; give the lower one first"
    );
    let dynamic_temperature = Some(DynamicTemperature { low: 0.5, high: 1.0, exponent: 1.0 });
    assert_eq!(
        refused(Params { dynamic_temperature, temperature: 0.7, ..fine }).to_string(),
        "temperature=0.7 and dynamic_temperature both set the temperature; give one of the two"
    );
    let message = refused(Params { top_p: Some(90.0), ..fine }).to_string();
    assert_eq!(message, "top_p=90 must be between 0 and 1; for 90% write 0.9");
}

#[test]
fn distinct_tokens_are_successive_draws() {
    let row: Vec<f32> = (0..1500).map(|i| (i % 17) as f32 * 0.3).collect();
    let mut workspace = Workspace::default();
    let context = DrawContext::from(Key { seed: 3, ..Key::default() });
    for sampler in [sampler(1.0, None, None), sampler(0.9, Some(40), None)] {
        let weights = sampler.weights(&row, context, &mut workspace).unwrap();
        let left = weights.iter().filter(|&&weight| weight > 0).count();
        let tokens = sampler.sample_distinct(&row, context, left, &mut workspace).unwrap();
        // The same by banning what was drawn; the maximum stays as long as its ties do.
        let mut weights = sampler.weights(&row, context, &mut workspace).unwrap();
        for (sample, &token) in (0..).zip(&tokens) {
            let total = weights.iter().sum();
            let ticket = Key { sample, ..context.key }.ticket(total);
            assert_eq!(crate::law::first_above(weights.iter().copied(), ticket), token as usize);
            weights[token as usize] = 0;
        }
        let refused = sampler.sample_distinct(&row, context, left + 1, &mut workspace).unwrap_err();
        assert_eq!(refused, Error::TooFewTokens { wanted: left + 1, tokens: left as u64 });
    }
}

#[test]
fn mirostat_follows_the_surprisals_drawn() {
    let row: Vec<f32> = (0..500).map(|i| (i as f32).sin() * 4.0).collect();
    let mirostat = Some(Mirostat { tau: 3.0, eta: 0.1 });
    let sampler = Sampler::new(Params { mirostat, ..Params::default() }).unwrap();
    let mut workspace = Workspace::default();
    let mut context = DrawContext::default();
    let mut surprisals = 0.0;
    for position in 0..2000 {
        context.key.position = position;
        let draw = sampler.sample(&row, context, &mut workspace).unwrap();
        context.mu = sampler.next_mu(context, &draw);
        surprisals -= draw.logprob() / std::f64::consts::LN_2;
    }
    assert!((surprisals / 2000.0 - 3.0).abs() < 0.1, "{}", surprisals / 2000.0);
}

#[test]
fn refused_memory_is_an_error() {
    let sampler = Sampler::new(Params::default()).unwrap();
    let count = usize::MAX / 8;
    let refused =
        sampler.sample_many(&[0.0], DrawContext::default(), count, &mut Workspace::default());
    assert!(matches!(refused.unwrap_err(), Error::Memory(refused) if refused.bytes == usize::MAX));
}
