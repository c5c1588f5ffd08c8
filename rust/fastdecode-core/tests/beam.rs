//! Beam search against what can be counted out: toy models whose every sequence is listed.

use std::collections::HashMap;

use fastdecode_core::beam::{
    Beam, BeamParams, BeamState, Choice, EarlyStopping, Ending, Listing, Outcome, Prompt,
};
use fastdecode_core::{Elements, Error, Logits, Params, ProcessorParams, Sampler};
use proptest::prelude::*;

/// A model over a toy vocabulary: its logits are a fixed function of the tokens before.
#[derive(Debug, Clone, Copy)]
struct Toy {
    vocabulary: usize,
    seed: u64,
}

impl Toy {
    fn logits(self, history: &[u32]) -> Vec<f32> {
        let mut state = self.seed;
        for &token in history {
            state = (state ^ u64::from(token + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        let logit = |token: usize| {
            let mut x = (state ^ token as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ x >> 31).wrapping_mul(0x94D0_49BB_1331_11EB);
            (x >> 40) as f32 / (1 << 22) as f32
        };
        (0..self.vocabulary).map(logit).collect()
    }

    fn logprobs(self, history: &[u32]) -> Vec<f64> {
        let logits = self.logits(history);
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        logits.iter().map(|&x| f64::from(x) - total.ln()).collect()
    }

    /// Every finished sequence with its log-probability.
    fn all(self, prompt: &[u32], ends: &[u32], limit: usize) -> Vec<(Vec<u32>, f64)> {
        let mut finished = Vec::new();
        let mut live = vec![(Vec::new(), 0.0)];
        for length in 1..=limit {
            let mut next = Vec::new();
            for (tokens, sum) in live {
                let history: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
                for (token, logprob) in (0..).zip(self.logprobs(&history)) {
                    let mut longer: Vec<u32> = tokens.clone();
                    longer.push(token);
                    let ended = ends.contains(&token) || length == limit;
                    let into = if ended { &mut finished } else { &mut next };
                    into.push((longer, sum + logprob));
                }
            }
            live = next;
        }
        finished
    }
}

/// Runs a search to its end; returns the outcomes of each prompt.
fn run(
    toy: Toy,
    params: BeamParams,
    prompts: &[Prompt],
    ends: &[u32],
    seed: u64,
) -> Vec<Vec<Outcome>> {
    let beam = Beam::new(params).unwrap();
    let mut state = BeamState::new(beam, prompts.to_vec(), ends.to_vec(), seed, false).unwrap();
    let mut histories: Vec<Vec<u32>> = prompts.iter().map(|p| p.ids.clone()).collect();
    while state.rows() > 0 {
        assert_eq!(histories.len(), state.rows());
        let flat: Vec<f32> = histories.iter().flat_map(|history| toy.logits(history)).collect();
        let logits = Logits {
            elements: Elements::F32(&flat),
            rows: histories.len(),
            vocabulary: toy.vocabulary,
            stride: toy.vocabulary,
        };
        let opened = state.open(&logits, None).unwrap();
        let step = state.advance(opened, None).unwrap();
        histories = step
            .parents
            .iter()
            .zip(&step.tokens)
            .map(|(&parent, &token)| {
                let mut longer = histories[parent as usize].clone();
                longer.push(token);
                longer
            })
            .collect();
        let live: Vec<Vec<u32>> = state
            .live()
            .into_iter()
            .map(|row| {
                let prompt = &prompts[row.prompt as usize];
                prompt.ids.iter().copied().chain(row.tokens).collect()
            })
            .collect();
        assert_eq!(live, histories, "parents and tokens rebuild the histories");
    }
    (0..prompts.len()).map(|prompt| state.outcomes(prompt).unwrap()).collect()
}

fn prompt(ids: &[u32], limit: usize) -> Prompt {
    Prompt { index: 0, ids: ids.to_vec(), limit, stream: 0 }
}

fn penalised(sum: f64, length: usize, penalty: f64) -> f64 {
    sum / (length as f64).powf(penalty)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// With room for every sequence, the search is exhaustive.
    #[test]
    fn wide_beams_find_the_best_of_all(
        seed: u64,
        vocabulary in 2usize..5,
        limit in 1usize..5,
        ends in prop::collection::btree_set(0u32..4, 0..3),
        penalty in prop_oneof![Just(0.0), Just(1.0), 0.2..2.0],
        first: u32,
    ) {
        let toy = Toy { vocabulary, seed };
        let ends: Vec<u32> = ends.into_iter().filter(|&end| (end as usize) < vocabulary).collect();
        let wide = vocabulary.pow(limit as u32).cast_signed() as i64;
        let params = BeamParams {
            num_beams: wide,
            num_return_sequences: wide.min(10),
            length_penalty: penalty,
            early_stopping: EarlyStopping::Never,
            ..BeamParams::default()
        };
        let prompts = [prompt(&[first % 4], limit)];
        let found = run(toy, params, &prompts, &ends, 0).remove(0);
        let mut all = toy.all(&prompts[0].ids, &ends, limit);
        let score = |(tokens, sum): &(Vec<u32>, f64)| penalised(*sum, tokens.len(), penalty);
        all.sort_by(|a, b| score(b).total_cmp(&score(a)));
        prop_assert_eq!(found.len(), all.len().min(wide.min(10) as usize));
        for (one, exact) in found.iter().zip(&all) {
            prop_assert!((one.score - score(exact)).abs() < 2e-6);
            let listed = all.iter().find(|(tokens, _)| *tokens == one.tokens).unwrap();
            prop_assert!((one.score - score(listed)).abs() < 2e-6);
            prop_assert!((one.logprobs.iter().sum::<f64>() - listed.1).abs() < 2e-6);
            let last = one.tokens.last().unwrap();
            let ending = if ends.contains(last) { Ending::Eos } else { Ending::Limit };
            prop_assert_eq!(one.ending, Some(ending));
        }
    }

    /// A prompt's result is the same alone and in any batch, for every choice of candidates.
    #[test]
    fn batch_mates_do_not_matter(seed: u64, num_beams in 1i64..6, kind in 0..4) {
        let toy = Toy { vocabulary: 9, seed };
        let sampler = Sampler::new(Params::default()).unwrap();
        let mut params = BeamParams { num_beams, num_return_sequences: num_beams, ..BeamParams::default() };
        match kind {
            1 => params.choice = Choice::Sampled(sampler),
            2 => params.choice = Choice::Stochastic(sampler),
            3 => {
                params.num_beam_groups = num_beams;
                params.diversity_penalty = if num_beams > 1 { 0.7 } else { 0.0 };
            }
            _ => {}
        }
        let prompts: Vec<Prompt> = (0..4u32)
            .map(|i| Prompt { index: 0, ids: vec![i; i as usize + 1], limit: 2 + i as usize, stream: i })
            .collect();
        let together = run(toy, params.clone(), &prompts, &[0, 5], 11);
        for (index, prompt) in prompts.iter().enumerate() {
            let alone = run(toy, params.clone(), std::slice::from_ref(prompt), &[0, 5], 11).remove(0);
            prop_assert_eq!(&alone, &together[index]);
        }
    }

    /// One beam is greedy decoding.
    #[test]
    fn a_beam_of_one_is_greedy(seed: u64, limit in 1usize..12) {
        let toy = Toy { vocabulary: 12, seed };
        let params = BeamParams { num_beams: 1, ..BeamParams::default() };
        let found = run(toy, params, &[prompt(&[1], limit)], &[0], 0).remove(0).remove(0);
        let mut history = vec![1];
        loop {
            let logits = toy.logits(&history);
            let best = (0..12u32).max_by(|&a, &b| {
                logits[a as usize].total_cmp(&logits[b as usize]).then(b.cmp(&a))
            });
            history.push(best.unwrap());
            if best == Some(0) || history.len() > limit {
                break;
            }
        }
        prop_assert_eq!(found.tokens, &history[1..]);
    }

    /// Tokens of equal scores come in the order of beams, then ids.
    #[test]
    fn ties_follow_the_total_order(num_beams in 1i64..7) {
        let params = BeamParams { num_beams, num_return_sequences: num_beams, ..BeamParams::default() };
        let beam = Beam::new(params).unwrap();
        let mut state = BeamState::new(beam, vec![prompt(&[1], 2)], vec![], 0, false).unwrap();
        let flat = vec![0.0f32; 8 * num_beams as usize];
        for step in 0..2 {
            let rows = state.rows();
            let logits = Logits { elements: Elements::F32(&flat), rows, vocabulary: 8, stride: 8 };
            let opened = state.open(&logits, None).unwrap();
            let next = state.advance(opened, None).unwrap();
            if step == 0 {
                prop_assert_eq!(next.tokens, (0..num_beams as u32).collect::<Vec<_>>());
            }
        }
        for (token, one) in (0..).zip(state.outcomes(0).unwrap()) {
            prop_assert_eq!(one.tokens, [0, token]);
        }
    }
}

/// The sum of 1 / inclusion over the sample estimates the number of sequences, and that of
/// probability / inclusion estimates 1, without bias (Kool et al., 2019).
#[test]
fn inclusion_weights_are_unbiased() {
    let toy = Toy { vocabulary: 4, seed: 5 };
    let params = BeamParams {
        num_beams: 6,
        num_return_sequences: 6,
        choice: Choice::Stochastic(Sampler::new(Params::default()).unwrap()),
        ..BeamParams::default()
    };
    let prompts: Vec<Prompt> =
        (0..6000).map(|stream| Prompt { index: 0, ids: vec![2], limit: 3, stream }).collect();
    let all = toy.all(&[2], &[0], 3);
    let mut weights = Vec::new();
    let mut ones = HashMap::new();
    for outcomes in run(toy, params, &prompts, &[0], 9) {
        assert_eq!(outcomes.len(), 6);
        weights.push(outcomes.iter().map(|one| one.score.exp() / one.inclusion.unwrap()).sum());
        *ones.entry(outcomes[0].tokens.clone()).or_insert(0.0) += 1.0;
        let mut distinct: Vec<_> = outcomes.iter().map(|one| &one.tokens).collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 6, "without replacement");
    }
    let count = weights.len() as f64;
    let mean: f64 = weights.iter().sum::<f64>() / count;
    let variance = weights.iter().map(|w: &f64| (w - mean).powi(2)).sum::<f64>() / count;
    assert!((mean - 1.0).abs() < 4.0 * (variance / count).sqrt(), "{mean} {variance}");
    // The first sequence of each sample is an ordinary sample of the model.
    let chi: f64 = all
        .iter()
        .map(|(tokens, logprob)| {
            let expected = logprob.exp() * count;
            let seen: f64 = ones.get(tokens).copied().unwrap_or(0.0);
            (seen - expected).powi(2) / expected
        })
        .sum();
    let freedom = all.len() as f64 - 1.0;
    assert!(chi < freedom + 5.0 * (2.0 * freedom).sqrt(), "chi-square {chi} for {freedom}");
}

/// Beam sampling's first step draws its candidates without replacement from the model.
#[test]
fn beam_sampling_draws_from_the_model() {
    let toy = Toy { vocabulary: 5, seed: 8 };
    let sampler = Sampler::new(Params::default()).unwrap();
    let params =
        BeamParams { num_beams: 1, choice: Choice::Sampled(sampler), ..BeamParams::default() };
    let draws = 20_000u32;
    let prompts: Vec<Prompt> =
        (0..draws).map(|stream| Prompt { index: 0, ids: vec![1], limit: 1, stream }).collect();
    let mut counts = [0.0; 5];
    for outcomes in run(toy, params, &prompts, &[], 4) {
        counts[outcomes[0].tokens[0] as usize] += 1.0;
    }
    let chi: f64 = toy
        .logprobs(&[1])
        .iter()
        .zip(counts)
        .map(|(logprob, seen)| {
            let expected = logprob.exp() * f64::from(draws);
            (seen - expected).powi(2) / expected
        })
        .sum();
    assert!(chi < 23.5, "chi-square {chi} for 4 degrees of freedom");
}

#[test]
fn groups_differ_and_penalties_count() {
    let toy = Toy { vocabulary: 30, seed: 3 };
    let params = BeamParams {
        num_beams: 4,
        num_return_sequences: 4,
        num_beam_groups: 4,
        diversity_penalty: 100.0,
        ..BeamParams::default()
    };
    let found = run(toy, params, &[prompt(&[1], 1)], &[], 0).remove(0);
    let mut tokens: Vec<u32> = found.iter().map(|one| one.tokens[0]).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 4, "a large penalty keeps the groups apart");
}

#[test]
fn refusals() {
    let new = |processor: &dyn Fn(&mut BeamParams)| {
        let mut params = BeamParams::default();
        processor(&mut params);
        Beam::new(params)
    };
    let refused = |processor: &dyn Fn(&mut BeamParams)| new(processor).unwrap_err().to_string();
    assert_eq!(
        refused(&|p| p.num_beams = 0),
        "num_beams=0 must be between 1 and 4096; 1 is greedy"
    );
    assert_eq!(
        refused(&|p| p.num_return_sequences = 5),
        "num_return_sequences=5 must be between 1 and num_beams=4; raise num_beams to get more"
    );
    assert_eq!(
        refused(&|p| p.num_beam_groups = 3),
        "num_beam_groups=3 does not divide num_beams=4 into groups of equal size; \
         use one of its divisors"
    );
    assert_eq!(
        refused(&|p| p.diversity_penalty = 0.5),
        "diversity_penalty=0.5 needs groups; set num_beam_groups above 1"
    );
    assert!(refused(&|p| p.length_penalty = f64::NAN).starts_with("length_penalty=NaN"));
    assert!(
        refused(&|p| p.processors.bad_words = vec![vec![1], vec![]])
            .starts_with("bad_words[1] is empty")
    );
    assert!(refused(&|p| p.processors.min_new_tokens = -1).starts_with("min_new_tokens=-1"));
    assert!(
        refused(&|p| p.processors.no_repeat_ngram_size = -1).starts_with("no_repeat_ngram_size=-1")
    );
    assert_eq!(
        refused(&|p| {
            p.choice = Choice::Stochastic(Sampler::new(Params::default()).unwrap());
            p.length_penalty = 2.0;
        }),
        "length_penalty does not go with stochastic in a beam search; leave one of the two out"
    );
    let beam = Beam::new(BeamParams::default()).unwrap();
    let start = |prompts| BeamState::new(beam.clone(), prompts, vec![9], 0, false);
    assert_eq!(start(vec![prompt(&[1], 1), prompt(&[1], 0)]).unwrap_err(), Error::NoRoom(1));
    let state = start(vec![prompt(&[1], 1)]).unwrap();
    let flat = [0.0f32; 8];
    let logits = |rows| Logits {
        elements: Elements::F32(&flat),
        rows,
        vocabulary: 8 / rows,
        stride: 8 / rows,
    };
    assert_eq!(state.open(&logits(2), None).unwrap_err(), Error::BeamRows { got: 2, rows: 1 });
    let unknown = Error::UnknownToken { name: "ends", token: 9, size: 8 };
    assert_eq!(state.open(&logits(1), None).unwrap_err(), unknown);
}

#[test]
fn constraints_hold_and_dead_ends_are_refused() {
    let toy = Toy { vocabulary: 6, seed: 2 };
    let params = BeamParams {
        num_beams: 3,
        num_return_sequences: 3,
        processors: ProcessorParams {
            min_new_tokens: 3,
            bad_words: vec![vec![4], vec![1, 2]],
            ..ProcessorParams::default()
        },
        ..BeamParams::default()
    };
    for one in run(toy, params, &[prompt(&[1], 5)], &[0], 0).remove(0) {
        assert!(one.tokens.len() >= 3 && !one.tokens.contains(&4));
        let whole: Vec<u32> = [1].into_iter().chain(one.tokens).collect();
        assert!(!whole.windows(2).any(|pair| pair == [1, 2]));
    }
    let beam = Beam::new(BeamParams::default()).unwrap();
    let mut state = BeamState::new(beam, vec![prompt(&[1], 5)], vec![], 0, false).unwrap();
    let flat = [0.0f32; 8];
    let logits = Logits { elements: Elements::F32(&flat), rows: 1, vocabulary: 8, stride: 8 };
    let opened = state.open(&logits, Some(&[Some(vec![])])).unwrap();
    assert_eq!(state.advance(opened, None), Err(Error::DeadEnd { prompt: 0, tokens: 0 }));
    let beam = Beam::new(BeamParams::default()).unwrap();
    let state = BeamState::new(beam, vec![prompt(&[1], 5)], vec![], 0, false).unwrap();
    let unknown = Error::UnknownToken { name: "allowed", token: 8, size: 8 };
    assert_eq!(state.open(&logits, Some(&[Some(vec![8])])).unwrap_err(), unknown);
}

/// Runs a listing to its end.
fn list(toy: Toy, bound: f64, ids: &[u32], ends: &[u32], limit: usize) -> Vec<Outcome> {
    let mut listing = Listing::new(bound, limit, ends.to_vec()).unwrap();
    let mut histories = vec![ids.to_vec()];
    while listing.rows() > 0 {
        let flat: Vec<f32> = histories.iter().flat_map(|history| toy.logits(history)).collect();
        let (rows, vocabulary) = (histories.len(), toy.vocabulary);
        let elements = Elements::F32(&flat);
        let logits = Logits { elements, rows, vocabulary, stride: vocabulary };
        let (tokens, parents) = listing.step(&logits).unwrap();
        let longer = |(token, parent): (u32, u32)| {
            histories[parent as usize].iter().copied().chain([token]).collect()
        };
        histories = tokens.into_iter().zip(parents).map(longer).collect();
    }
    listing.outcomes().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A listing has every sequence above the bound and no other.
    #[test]
    fn listings_are_complete(
        seed: u64,
        vocabulary in 2usize..6,
        limit in 1usize..5,
        bound in prop_oneof![Just(1e-9), 1e-4..0.5],
    ) {
        let toy = Toy { vocabulary, seed };
        let listed = list(toy, bound, &[3], &[0], limit);
        let mut exact = toy.all(&[3], &[0], limit);
        // Sequences at the bound itself may fall on either side of it.
        let at_bound = |sum: f64| (sum.exp() / bound - 1.0).abs() < 1e-5;
        let doubtful = exact.iter().filter(|(_, sum)| at_bound(*sum)).count();
        exact.retain(|(_, sum)| sum.exp() >= bound || at_bound(*sum));
        prop_assert!(listed.len() <= exact.len() && listed.len() + doubtful >= exact.len());
        for one in &listed {
            let (_, sum) = exact.iter().find(|(tokens, _)| *tokens == one.tokens).unwrap();
            prop_assert!((sum - one.score).abs() < 2e-6);
        }
        prop_assert!(listed.is_sorted_by(|a, b| a.score >= b.score));
    }
}

#[test]
fn refusals_of_a_listing() {
    for bound in [0.0, -0.1, 1.5, f64::NAN, 1e-310] {
        let refused = Listing::new(bound, 3, vec![]).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("min_probability={bound} must be above 0")),
            "{refused}"
        );
    }
    assert_eq!(Listing::new(0.1, 0, vec![]).unwrap_err(), Error::Zero { name: "limit" });
}

/// Bans change no score; penalties act on log-probabilities; draws follow the processed law.
#[test]
fn processors_in_beams() {
    let toy = Toy { vocabulary: 5, seed: 12 };
    let all = |processors: ProcessorParams, choice| {
        let params = BeamParams {
            num_beams: 5,
            num_return_sequences: 5,
            processors,
            choice,
            ..BeamParams::default()
        };
        run(toy, params, &[prompt(&[1], 1)], &[], 3).remove(0)
    };
    let plain = toy.logprobs(&[1]);
    let bans = ProcessorParams { allowed: Some(vec![2, 4]), ..ProcessorParams::default() };
    let found = all(bans.clone(), Choice::Best);
    assert_eq!(found.len(), 2);
    for one in &found {
        assert!((one.score - plain[one.tokens[0] as usize]).abs() < 1e-6);
    }
    let bias = ProcessorParams { logit_bias: vec![(vec![3], 1.5)], ..ProcessorParams::default() };
    for one in all(bias, Choice::Best) {
        let token = one.tokens[0] as usize;
        let exact = plain[token] + if token == 3 { 1.5 } else { 0.0 };
        assert!((one.score - exact).abs() < 1e-6);
        assert!((one.logprobs[0] - plain[token]).abs() < 1e-6);
    }
    // The stochastic search's law is what the bans leave, made to sum to one.
    let drawn = all(bans, Choice::Stochastic(Sampler::new(Params::default()).unwrap()));
    let sum: f64 = drawn.iter().map(|one| one.score.exp()).sum();
    assert_eq!(drawn.len(), 2);
    assert!((sum - 1.0).abs() < 1e-6);
    assert!(drawn.iter().all(|one| one.inclusion == Some(1.0)));
}
