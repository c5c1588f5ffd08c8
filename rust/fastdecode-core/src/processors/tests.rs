//! The processors against a second, slow and obvious implementation and at extremes.

use proptest::prelude::*;

use super::repeats::Repeats;
use super::{DryParams, History, ProcessorParams, ProcessorWorkspace, Processors};

const INF: f32 = f32::INFINITY;

fn processed(params: &ProcessorParams, row: &[f32], history: History<'_>) -> Vec<f32> {
    let mut row = row.to_vec();
    let processors = Processors::new(params.clone()).unwrap();
    processors.apply(&mut row, history, &mut ProcessorWorkspace::default()).unwrap();
    row
}

/// All tokens are the prompt's.
fn after(tokens: &[u32]) -> History<'_> {
    History::new(tokens, tokens.len())
}

// The same rules again, token by token.

fn plain(params: &ProcessorParams, row: &[f32], history: History<'_>) -> Vec<f32> {
    let (tokens, prompt) = (history.tokens(), history.prompt());
    (0..)
        .zip(row)
        .map(|(token, &logit)| plain_token(params, token, logit, tokens, prompt))
        .collect()
}

fn plain_token(p: &ProcessorParams, token: u32, mut x: f32, tokens: &[u32], prompt: usize) -> f32 {
    let settle =
        |old: f32, new: f32| if old.is_finite() { new.clamp(f32::MIN, f32::MAX) } else { old };
    let completed = |ids: &[u32]| {
        let (last, before) = ids.split_last().unwrap();
        *last == token && tokens.ends_with(before)
    };
    let mut biases = p.logit_bias.clone();
    biases.sort_by_key(|(ids, _)| (ids.len(), ids.clone()));
    for (_, bias) in biases.iter().filter(|(ids, _)| completed(ids)) {
        if *bias == -INF {
            x = -INF;
        }
        x = settle(x, x + bias);
    }
    if tokens.contains(&token) {
        let penalty = p.repetition_penalty as f32;
        x = settle(x, if x < 0.0 { x * penalty } else { x / penalty });
    }
    let counted = if p.penalties_count_prompt { tokens } else { &tokens[prompt..] };
    let count = counted.iter().filter(|&&t| t == token).count() as f32;
    if count > 0.0 {
        x = settle(x, x - count * p.frequency_penalty as f32);
        x = settle(x, x - p.presence_penalty as f32);
    }
    if let Some(dry) = &p.dry {
        x = settle(x, x - plain_dry(dry, token, tokens));
    }
    let size = p.no_repeat_ngram_size as usize;
    if size > 0 && tokens.len() + 1 >= size {
        let mut ngram = tokens[tokens.len() + 1 - size..].to_vec();
        ngram.push(token);
        if tokens.windows(size).any(|window| window == ngram) {
            x = -INF;
        }
    }
    let ends = |word: &[u32]| word.len() == 1 && p.eos.contains(&word[0]);
    if p.bad_words.iter().any(|word| completed(word) && !ends(word)) {
        x = -INF;
    }
    let generated = tokens.len() - prompt;
    if generated < p.min_new_tokens as usize && p.eos.contains(&token) {
        x = -INF;
    }
    if p.allowed.as_ref().is_some_and(|ids| !ids.contains(&token)) {
        x = -INF;
    }
    x
}

fn plain_dry(dry: &DryParams, token: u32, tokens: &[u32]) -> f32 {
    let DryParams { multiplier, base, allowed_length, range, sequence_breakers } = dry;
    let start = range.map_or(0, |range| tokens.len().saturating_sub(range as usize));
    let tokens = &tokens[start..];
    if *multiplier == 0.0 || sequence_breakers.contains(&vec![token]) {
        return 0.0;
    }
    let broken = |end: &usize| sequence_breakers.iter().any(|b| tokens[..*end].ends_with(b));
    let reach = tokens.len() - (0..=tokens.len()).filter(broken).max().unwrap_or(0);
    let follows = (1..tokens.len()).filter(|&at| tokens[at] == token);
    let longest = follows.map(|at| common_end(&tokens[..at], tokens).min(reach)).max().unwrap_or(0);
    let allowed_length = *allowed_length as usize;
    if longest < allowed_length {
        return 0.0;
    }
    (allowed_length..longest).fold(*multiplier, |penalty, _| penalty * base) as f32
}

fn common_end(a: &[u32], b: &[u32]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

// The test cases. They have few different tokens, so that everything repeats.

const VOCABULARY: u32 = 6;

fn rows() -> impl Strategy<Value = Vec<f32>> {
    let extreme = prop_oneof![
        Just(f32::MAX),
        Just(f32::MIN),
        Just(-0.0),
        Just(1e-42),
        Just(-INF),
        Just(INF),
        Just(f32::NAN),
    ];
    prop::collection::vec(prop_oneof![8 => -8.0f32..8.0, 1 => extreme], VOCABULARY as usize)
}

fn ids(size: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCABULARY, size)
}

/// Up to 32 tokens, of which some are the prompt's.
fn histories() -> impl Strategy<Value = (Vec<u32>, usize)> {
    let few = prop::collection::vec(0..2u32, 0..32);
    let tokens = prop_oneof![ids(0..32), few, (0..VOCABULARY).prop_map(|t| vec![t; 20])];
    tokens.prop_flat_map(|tokens| {
        let len = tokens.len();
        (Just(tokens), 0..=len)
    })
}

fn biases() -> impl Strategy<Value = Vec<(Vec<u32>, f32)>> {
    let bias = prop_oneof![4 => -5.0f32..5.0, 1 => Just(-INF), 1 => Just(3e38f32)];
    prop::collection::btree_map(ids(1..4), bias, 0..8).prop_map(|map| map.into_iter().collect())
}

fn drys() -> impl Strategy<Value = DryParams> {
    // Bases whose powers are exact, however they are multiplied.
    let base = prop_oneof![Just(1.0), Just(1.5), Just(2.0)];
    let breakers = prop::collection::vec(ids(1..4), 0..3);
    (0.0..3.0, base, 1i64..4, prop::option::of(1i64..40), breakers).prop_map(
        |(multiplier, base, allowed_length, range, sequence_breakers)| DryParams {
            multiplier,
            base,
            allowed_length,
            range,
            sequence_breakers,
        },
    )
}

prop_compose! {
    fn edit_params()(
        logit_bias in biases(),
        repetition_penalty in prop_oneof![Just(1.0), 0.3..3.0, Just(1e-30), Just(1e30)],
        frequency_penalty in prop_oneof![Just(0.0), -2.0..2.0, Just(2e38), Just(-2e38)],
        presence_penalty in prop_oneof![Just(0.0), -2.0..2.0],
        penalties_count_prompt in any::<bool>(),
        dry in prop::option::of(drys()),
        no_repeat_ngram_size in prop_oneof![3 => Just(0), 2 => 1i64..6],
        bad_words in prop::collection::vec(ids(1..4), 0..4),
        eos in ids(1..3),
        min_new_tokens in prop_oneof![Just(0), 0i64..40],
        allowed in prop::option::of(ids(1..9)),
    ) -> ProcessorParams {
        ProcessorParams {
            logit_bias, repetition_penalty, frequency_penalty, presence_penalty,
            penalties_count_prompt, dry, no_repeat_ngram_size, bad_words, min_new_tokens, allowed,
            eos,
        }
    }
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn agrees_with_the_plain_rules(
        params in edit_params(), row in rows(), (tokens, prompt) in histories(),
    ) {
        let history = History::new(&tokens, prompt);
        let processed = processed(&params, &row, history);
        prop_assert_eq!(bits(&processed), bits(&plain(&params, &row, history)));
        for (before, after) in row.iter().zip(&processed) {
            prop_assert!(after.is_finite() || *after == -INF || before.to_bits() == after.to_bits());
        }
    }

    /// What a row was processed with before, and the order in which sets are written, change nothing.
    #[test]
    fn nothing_else_matters(
        params in edit_params(), other in histories(), row in rows(), (tokens, prompt) in histories(),
    ) {
        let history = History::new(&tokens, prompt);
        let expected = processed(&params, &row, history);
        let mut reversed = params;
        reversed.logit_bias.reverse();
        reversed.bad_words.reverse();
        reversed.eos.reverse();
        if let Some(allowed) = &mut reversed.allowed {
            allowed.reverse();
        }
        if let Some(dry) = &mut reversed.dry {
            dry.sequence_breakers.reverse();
        }
        let processors = Processors::new(reversed).unwrap();
        let mut workspace = ProcessorWorkspace::default();
        processors.apply(&mut row.clone(), after(&other.0), &mut workspace).unwrap();
        let mut again = row;
        processors.apply(&mut again, history, &mut workspace).unwrap();
        prop_assert_eq!(bits(&again), bits(&expected));
    }

    /// Processors that say so leave every row alone, or ignore the history.
    #[test]
    fn says_what_it_needs(params in edit_params(), row in rows(), (tokens, prompt) in histories()) {
        let processors = Processors::new(params.clone()).unwrap();
        let processed = processed(&params, &row, History::new(&tokens, prompt));
        if processors.is_empty() {
            prop_assert_eq!(bits(&processed), bits(&row));
        }
        if !processors.needs_history() {
            let mut again = row;
            let nonsense = History::new(&[u32::MAX], 7);
            processors.apply(&mut again, nonsense, &mut ProcessorWorkspace::default()).unwrap();
            prop_assert_eq!(bits(&processed), bits(&again));
        }
    }

    #[test]
    fn repeats_are_measured(tokens in prop::collection::vec(0u32..2, 0..300), period in 1usize..9) {
        let periodic: Vec<u32> = (0..tokens.len()).map(|i| tokens[i % period.min(tokens.len())]).collect();
        let mut repeats = Repeats::default();
        for tokens in [&tokens, &periodic] {
            repeats.measure(tokens);
            let plain = (1..=tokens.len()).map(|d| (d, common_end(&tokens[..tokens.len() - d], tokens)));
            prop_assert!(repeats.iter().eq(plain));
        }
    }
}

/// A quadratic search would take minutes here.
#[test]
fn long_loops_are_measured_in_linear_time() {
    let tokens = vec![7; 300_000];
    let mut repeats = Repeats::default();
    repeats.measure(&tokens);
    assert!(repeats.iter().all(|(distance, length)| distance + length == tokens.len()));
}

#[test]
fn the_default_changes_nothing() {
    let processors = Processors::new(ProcessorParams::default()).unwrap();
    assert!(processors.is_empty() && !processors.needs_history());
    let off = DryParams { sequence_breakers: vec![vec![3]], ..DryParams::default() };
    assert!(
        Processors::new(ProcessorParams { dry: Some(off), ..Default::default() })
            .unwrap()
            .is_empty()
    );
}

/// Each processor alone: whether it needs the history.
#[test]
fn each_edit_is_seen() {
    let none = ProcessorParams::default;
    let dry = Some(DryParams { multiplier: 1.0, ..Default::default() });
    let cases = [
        (ProcessorParams { logit_bias: vec![(vec![1], 1.0)], ..none() }, false),
        (ProcessorParams { logit_bias: vec![(vec![1, 2], 1.0)], ..none() }, true),
        (ProcessorParams { repetition_penalty: 1.1, ..none() }, true),
        (ProcessorParams { frequency_penalty: 0.1, ..none() }, true),
        (ProcessorParams { presence_penalty: 0.1, ..none() }, true),
        (ProcessorParams { dry, ..none() }, true),
        (ProcessorParams { no_repeat_ngram_size: 1, ..none() }, true),
        (ProcessorParams { bad_words: vec![vec![1]], ..none() }, false),
        (ProcessorParams { bad_words: vec![vec![1, 2]], ..none() }, true),
        (ProcessorParams { min_new_tokens: 1, ..none() }, true),
        (ProcessorParams { allowed: Some(vec![1]), ..none() }, false),
    ];
    for (params, needs_history) in cases {
        let processors = Processors::new(params).unwrap();
        assert!(!processors.is_empty(), "{processors:?}");
        assert_eq!(processors.needs_history(), needs_history, "{processors:?}");
    }
    let word_is_eos = ProcessorParams { bad_words: vec![vec![1]], eos: vec![1], ..none() };
    assert!(Processors::new(word_is_eos).unwrap().is_empty());
}

/// The cases of llama.cpp's own test, as penalties on logits.
#[test]
fn dry_as_in_llama_cpp() {
    let dry = |multiplier, allowed_length, range, breakers: &[&[u32]], tokens: &[u32]| {
        let sequence_breakers = breakers.iter().map(|ids| ids.to_vec()).collect();
        let range = Some(range);
        let dry = DryParams { multiplier, base: 1.1, allowed_length, range, sequence_breakers };
        processed(
            &ProcessorParams { dry: Some(dry), ..Default::default() },
            &[0.0; 5],
            after(tokens),
        )
    };
    assert_eq!(dry(1.0, 2, 4, &[], &[0, 1]), [0.0; 5]);
    assert_eq!(dry(1.0, 2, 5, &[], &[0, 1, 2, 0, 1]), [0.0, 0.0, -1.0, 0.0, 0.0]);
    assert_eq!(dry(1.0, 2, 6, &[&[3]], &[0, 1, 3, 4, 0, 1]), [0.0; 5]);
    assert_eq!(dry(2.0, 2, 5, &[], &[0, 1, 2, 0, 1]), [0.0, 0.0, -2.0, 0.0, 0.0]);
    assert_eq!(dry(1.0, 4, 7, &[], &[0, 1, 2, 3, 4, 0, 1]), [0.0; 5]);
    // Three tokens repeated where two are allowed; two after a breaker; none but a breaker.
    assert_eq!(dry(1.0, 2, 9, &[], &[4, 0, 1, 2, 4, 0, 1]), [0.0, 0.0, -1.1, 0.0, 0.0]);
    assert_eq!(dry(1.0, 2, 9, &[&[4]], &[4, 0, 1, 2, 4, 0, 1]), [0.0, 0.0, -1.0, 0.0, 0.0]);
    assert_eq!(dry(1.0, 2, 9, &[&[2]], &[4, 0, 1, 2, 4, 0, 1]), [0.0; 5]);
    // A breaker inside a longer one: the one that ends last counts.
    let nested: [&[u32]; 2] = [&[0, 1, 2], &[1]];
    assert_eq!(dry(1.0, 1, 9, &nested, &[0, 1, 2, 4, 0, 1, 2]), [0.0; 5]);
}

#[test]
fn a_growing_penalty_stops_at_the_smallest_float() {
    let dry = DryParams { multiplier: 0.8, base: 1e300, ..Default::default() };
    let tokens = [1; 100];
    let params = ProcessorParams { dry: Some(dry), ..Default::default() };
    assert_eq!(processed(&params, &[0.0, 5.0], after(&tokens)), [0.0, f32::MIN]);
    let params = ProcessorParams { frequency_penalty: -3e38, ..Default::default() };
    assert_eq!(processed(&params, &[-INF, 5.0], after(&[0, 1, 1])), [-INF, f32::MAX]);
}

#[test]
fn a_ban_hides_a_broken_logit() {
    let params = ProcessorParams { bad_words: vec![vec![0], vec![1]], ..Default::default() };
    assert_eq!(processed(&params, &[f32::NAN, INF, 1.0], after(&[])), [-INF, -INF, 1.0]);
    let params = ProcessorParams { logit_bias: vec![(vec![0], -INF)], ..Default::default() };
    assert_eq!(processed(&params, &[INF, 1.0], after(&[])), [-INF, 1.0]);
}

#[test]
fn text_may_end_in_spite_of_bad_words() {
    let bad_words = vec![vec![2], vec![1, 2], vec![0]];
    let params = ProcessorParams { bad_words, ..Default::default() };
    let processors = Processors::new(params.clone()).unwrap();
    assert_eq!(processors.params(), &params);
    assert_eq!(
        processors.with_eos(&[2]).unwrap().params(),
        &ProcessorParams { eos: vec![2], ..params }
    );
    let mut row = [0.0; 3];
    let mut workspace = ProcessorWorkspace::default();
    processors.with_eos(&[2]).unwrap().apply(&mut row, after(&[0]), &mut workspace).unwrap();
    assert_eq!(row, [-INF, 0.0, 0.0]);
    processors.with_eos(&[2]).unwrap().apply(&mut row, after(&[1]), &mut workspace).unwrap();
    assert_eq!(row, [-INF, 0.0, -INF]);
}

#[test]
fn vast_sizes_are_no_trouble() {
    let params = ProcessorParams { no_repeat_ngram_size: i64::MAX, ..Default::default() };
    assert_eq!(processed(&params, &[1.0; 2], after(&[0, 0])), [1.0; 2]);
    let min_new_tokens = i64::MAX;
    let params = ProcessorParams { min_new_tokens, eos: vec![1], ..Default::default() };
    assert_eq!(processed(&params, &[1.0; 2], after(&[0, 0])), [1.0, -INF]);
    let allowed_length = i64::MAX;
    let dry =
        DryParams { multiplier: 1.0, allowed_length, range: Some(i64::MAX), ..Default::default() };
    let params = ProcessorParams { dry: Some(dry), ..Default::default() };
    assert_eq!(processed(&params, &[1.0; 2], after(&[0, 0])), [1.0; 2]);
}

#[test]
fn penalties_count_the_prompt_or_not() {
    let penalties = |count_prompt| ProcessorParams {
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        penalties_count_prompt: count_prompt,
        ..ProcessorParams::default()
    };
    // Token 0 is the prompt's, 1 the prompt's and generated twice, 2 generated.
    let history = History::new(&[0, 1, 1, 2, 1], 2);
    let row = [4.0; 4];
    assert_eq!(processed(&penalties(true), &row, history), [3.25, 2.25, 3.25, 4.0]);
    assert_eq!(processed(&penalties(false), &row, history), [4.0, 2.75, 3.25, 4.0]);
    // The repetition penalty looks at the prompt in both cases.
    let both = ProcessorParams { repetition_penalty: 2.0, ..penalties(false) };
    assert_eq!(processed(&both, &row, history), [2.0, 0.75, 1.25, 4.0]);
    let needs_prompt = |params| Processors::new(params).unwrap().needs_prompt();
    assert!(needs_prompt(penalties(false)) && !needs_prompt(penalties(true)));
    let no_penalty =
        ProcessorParams { penalties_count_prompt: false, ..ProcessorParams::default() };
    assert!(Processors::new(no_penalty.clone()).unwrap().is_empty());
    assert!(!needs_prompt(no_penalty));
}
