//! The state against the same draws without one.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    Choice, DecodeState, Drawn, FinishReason, Limit, Noting, Rows, Sequence, SequenceParams,
};
use crate::error::{Error, Result};
use crate::law::Draw;
use crate::pipeline::{Pipeline, Request};
use crate::processors::{DryParams, History, ProcessorParams};
use crate::queries;
use crate::rng::key::Key;
use crate::row::logits::{Elements, Logits};
use crate::truncation::{DrawContext, Mirostat, Params, Xtc};
use crate::workspace::Workspace;
use fastdecode_simd::Level;

/// Tokens of the tests' rows.
const SIZE: usize = 24;

/// A model of a few lines: the logits after a sequence of tokens.
fn model(tokens: &[u32]) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for &token in tokens {
        state = (state ^ u64::from(token)).wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(23);
    }
    (0..SIZE)
        .map(|id| {
            let bits = (state ^ id as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40;
            bits as f32 / (1u64 << 24) as f32 * 4.0 - 2.0
        })
        .collect()
}

fn logits(rows: &[f32]) -> Logits<'_> {
    let count = rows.len() / SIZE;
    Logits { elements: Elements::F32(rows), rows: count, vocabulary: SIZE, stride: SIZE }
}

/// One row a sequence.
fn next_rows(state: &DecodeState) -> Vec<f32> {
    state.sequences().iter().flat_map(|sequence| model(sequence.history().tokens())).collect()
}

fn step(state: &mut DecodeState, noting: Noting) -> Result<Drawn> {
    let rows = next_rows(state);
    state.step(&logits(&rows), noting)
}

fn params(prompt: &[u32], limit: Limit) -> SequenceParams {
    let pipeline = Pipeline::new(Params::default(), ProcessorParams::default()).unwrap();
    SequenceParams {
        pipeline: Arc::new(pipeline),
        seed: 1,
        stream: 2,
        sample: 3,
        history: prompt.to_vec(),
        prompt: prompt.len(),
        mu: None,
        limit,
        ends: Arc::from([]),
    }
}

/// The same decode with nothing kept but tokens and mirostat's bound.
fn stateless(params: &SequenceParams, count: usize) -> (Vec<u32>, Vec<Draw>) {
    let mut workspace = Workspace::default();
    let mut tokens = params.history.clone();
    let mut mu = params.mu;
    let mut draws = Vec::new();
    for _ in 0..count {
        let SequenceParams { seed, stream, sample, .. } = *params;
        let key = Key { seed, stream, sample, position: tokens.len() as u32 };
        let context = DrawContext { key, mu };
        let request = Request { context, history: History::new(&tokens, params.prompt) };
        let draw = params.pipeline.sample(&model(&tokens), request, &mut workspace).unwrap();
        mu = params.pipeline.sampler().next_mu(context, &draw);
        tokens.push(draw.token);
        draws.push(draw);
    }
    (tokens, draws)
}

fn share(odds: f64) -> impl Strategy<Value = Option<f64>> {
    prop::option::weighted(odds, 0.05..1.0f64)
}

fn pipelines() -> impl Strategy<Value = Arc<Pipeline>> {
    let truncations = (
        prop_oneof![3 => 0.3..2.0f64, 1 => Just(1.0), 1 => Just(0.0)],
        prop::option::weighted(0.3, 1i64..30),
        share(0.3),
        share(0.2),
        prop::option::weighted(0.3, (0.5..4.0f64, 0.1..1.0f64)),
        prop::option::weighted(0.3, (0.1..0.9f64, 0.02..0.4f64)),
    );
    let processors = (
        prop_oneof![Just(1.0), 0.6..1.8f64],
        prop_oneof![Just(0.0), -0.5..0.8f64],
        prop_oneof![Just(0.0), -0.5..0.8f64],
        prop::option::weighted(0.3, 0.1..2.0f64),
        prop_oneof![4 => Just(0i64), 1 => 2i64..4],
        0i64..4,
        prop::option::weighted(0.3, prop::collection::vec(0u32..SIZE as u32, 12..20)),
        any::<bool>(),
    );
    (truncations, processors).prop_map(|(t, p)| {
        let params = Params {
            temperature: t.0,
            top_k: t.1,
            top_p: t.2,
            min_p: t.3,
            mirostat: t.4.map(|(tau, eta)| Mirostat { tau, eta }),
            xtc: t.5.map(|(probability, threshold)| Xtc { probability, threshold }),
            ..Params::default()
        };
        let processors = ProcessorParams {
            repetition_penalty: p.0,
            frequency_penalty: p.1,
            presence_penalty: p.2,
            penalties_count_prompt: p.7,
            dry: p.3.map(|multiplier| DryParams { multiplier, ..DryParams::default() }),
            no_repeat_ngram_size: p.4,
            min_new_tokens: p.5,
            eos: vec![5],
            logit_bias: vec![(vec![1], 0.5), (vec![2, 3], f32::NEG_INFINITY)],
            allowed: p.6,
            ..ProcessorParams::default()
        };
        Arc::new(Pipeline::new(params, processors).unwrap())
    })
}

fn sequences() -> impl Strategy<Value = SequenceParams> {
    let prompt = prop::collection::vec(0u32..SIZE as u32, 0..6);
    (pipelines(), any::<u64>(), 0u32..3, 0u32..3, prompt).prop_map(
        |(pipeline, seed, stream, sample, prompt)| SequenceParams {
            pipeline,
            seed,
            stream,
            sample,
            prompt: prompt.len(),
            history: prompt,
            ..params(&[], Limit::Length(1000))
        },
    )
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 2 } else { count }, ..ProptestConfig::default() }
}

fn tokens(state: &DecodeState) -> Vec<Vec<u32>> {
    state.sequences().iter().map(|sequence| sequence.history().tokens().to_vec()).collect()
}

/// What changes the sequences between steps.
#[derive(Debug, Clone)]
enum Event {
    Join(SequenceParams),
    Keep(Vec<prop::sample::Index>),
    Fork(prop::sample::Index, u32),
    Step,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => sequences().prop_map(Event::Join),
        1 => prop::collection::vec(any::<prop::sample::Index>(), 1..5).prop_map(Event::Keep),
        1 => (any::<prop::sample::Index>(), 10u32..20).prop_map(|(i, s)| Event::Fork(i, s)),
        4 => Just(Event::Step),
    ];
    prop::collection::vec(event, 1..24)
}

proptest! {
    #![proptest_config(cases(192))]

    /// Whatever joins, leaves and forks: each sequence has the tokens that it would have alone and
    /// without a state.
    #[test]
    fn as_without_a_state(events in events()) {
        let mut state = DecodeState::new();
        // Each sequence's parameters and the number of its tokens since.
        let mut expected: Vec<(SequenceParams, usize)> = Vec::new();
        for event in events {
            match event {
                Event::Join(params) => {
                    state.join([Sequence::new(params.clone()).unwrap()]);
                    expected.push((params, 0));
                }
                Event::Keep(picks) if !expected.is_empty() => {
                    let rows: Vec<_> = picks.iter().map(|pick| pick.index(expected.len())).collect();
                    state.keep(&rows).unwrap();
                    expected = rows.iter().map(|&row| expected[row].clone()).collect();
                }
                Event::Fork(pick, sample) if !expected.is_empty() => {
                    let row = pick.index(expected.len());
                    let of = &state.sequences()[row];
                    let resumed = SequenceParams {
                        sample,
                        history: of.history().tokens().to_vec(),
                        mu: of.mu(),
                        ..expected[row].0.clone()
                    };
                    state.fork(row, sample).unwrap();
                    expected.push((resumed, 0));
                }
                Event::Keep(_) | Event::Fork(..) => {}
                Event::Step => {
                    let drawn = step(&mut state, Noting::default());
                    // A dead end of one sequence refuses the step and changes nothing.
                    match drawn {
                        Ok(_) => expected.iter_mut().for_each(|(_, count)| *count += 1),
                        Err(error) => {
                            prop_assert!(matches!(error, Error::AllBanned { .. }), "{error}");
                            return Ok(());
                        }
                    }
                }
            }
            let all: Vec<_> = expected.iter().map(|(params, n)| stateless(params, *n).0).collect();
            prop_assert_eq!(tokens(&state), all);
        }
    }

    /// A call for proposed tokens too, of which any prefix is committed, is as many steps.
    #[test]
    fn proposals_change_nothing(
        some in prop::collection::vec(sequences(), 1..4),
        rights in prop::collection::vec(0usize..4, 4),
        wrongs in prop::collection::vec(0u32..SIZE as u32, 4),
        cut in 0usize..6,
    ) {
        let mut state = DecodeState::new();
        state.join(some.iter().map(|params| Sequence::new(params.clone()).unwrap()));
        // `right` tokens that will be drawn, then one that mostly will not.
        let proposed: Vec<Vec<u32>> = some.iter().zip(&rights).zip(&wrongs).map(
            |((params, &right), &wrong)| {
                let mut ids = stateless(params, right).0.split_off(params.prompt);
                ids.push(wrong);
                ids
            },
        ).collect();
        let mut rows = Vec::new();
        for (params, proposed) in some.iter().zip(&proposed) {
            let mut tokens = params.history.clone();
            rows.extend(model(&tokens));
            for &token in proposed {
                tokens.push(token);
                rows.extend(model(&tokens));
            }
        }
        let drawn = state.draw(Rows::Raw(&logits(&rows)), &proposed, Noting::default()).unwrap();
        for (row, &right) in rights[..some.len()].iter().enumerate() {
            prop_assert!(drawn.committable()[row] > right);
            prop_assert_eq!(drawn.of(row).len(), right + 2);
        }
        let counts: Vec<_> = drawn.committable().iter().map(|&most| most.min(cut)).collect();
        state.commit(&drawn, Some(&counts)).unwrap();
        for ((params, &count), sequence) in some.iter().zip(&counts).zip(state.sequences()) {
            let (tokens, _) = stateless(params, count);
            prop_assert_eq!(sequence.history().tokens(), &tokens[..]);
        }
        // The state goes on as if it had taken single steps.
        if step(&mut state, Noting::default()).is_ok() {
            for ((params, &count), sequence) in some.iter().zip(&counts).zip(state.sequences()) {
                let (tokens, _) = stateless(params, count + 1);
                prop_assert_eq!(sequence.history().tokens(), &tokens[..]);
            }
        }
    }

    /// Processing and drawing apart is one step, and what is noted is what the separate functions
    /// say.
    #[test]
    fn parts_and_notes(params in sequences(), raw in any::<bool>(), ledger in prop::option::of(0usize..4)) {
        let level = Level::detect();
        let mut workspace = Workspace::default();
        let mut state = DecodeState::new();
        state.join([Sequence::new(params.clone()).unwrap()]);
        let rows = next_rows(&state);
        let logits = logits(&rows);
        let noting = Noting { raw, processed: true, alternatives: 3, ledger };
        let Ok(drawn) = state.draw(Rows::Raw(&logits), &[], noting) else { return Ok(()) };
        let processed = state.process(&logits, &[]).unwrap();
        let processed = Logits { elements: Elements::F32(&processed), ..logits };
        let apart = Rows::Processed { rows: &processed, raw: Some(&logits) };
        prop_assert_eq!(&state.draw(apart, &[], noting).unwrap(), &drawn);

        let Choice { draw, noted, .. } = &drawn.choices()[0];
        prop_assert_eq!(draw, &stateless(&params, 1).1[0]);
        let token = i64::from(draw.token);
        let expected = queries::token_logprob(level, &rows, token, &mut workspace).unwrap();
        prop_assert_eq!(noted.raw, raw.then_some(expected));
        let best = queries::top_k(level, &rows, 3, &mut workspace).unwrap();
        let sum = queries::logsumexp(level, &rows, &mut workspace).unwrap();
        let best: Vec<_> = best.iter().map(|x| (x.id, f64::from(x.logit) - sum)).collect();
        prop_assert_eq!(&noted.alternatives, &best);
        let (processed, kept) = (noted.processed.unwrap(), noted.kept.unwrap());
        prop_assert!((processed - kept - draw.logprob()).abs() < 1e-12);

        let SequenceParams { seed, stream, sample, .. } = params;
        let key = Key { seed, stream, sample, position: params.prompt as u32 };
        let context = DrawContext { key, mu: None };
        let history = History::new(&params.history, params.prompt);
        let request = Request { context, history };
        let (_, expected) = params
            .pipeline
            .sample_with_ledger(&rows, request, ledger.unwrap_or(0), &mut workspace)
            .unwrap();
        prop_assert_eq!(kept, expected.kept_logprob);
        prop_assert_eq!(&noted.ledger, &ledger.map(|_| expected));
        let weights = params.pipeline.on_processed(&rows, history, &mut workspace, |row, space| {
            params.pipeline.sampler().weights(row, context, space)
        });
        let weights = weights.unwrap();
        for (x, expected) in noted.candidates.iter().zip(noted.ledger.iter().flat_map(|x| &x.alternatives)) {
            prop_assert_eq!((x.token, x.logprob), *expected);
        }
        for x in &noted.candidates {
            prop_assert_eq!(x.weight, weights[x.token as usize]);
        }
        let own = noted.candidates.iter().filter(|x| x.token == draw.token).count();
        prop_assert_eq!(own, usize::from(ledger.is_some()));
    }
}

#[test]
fn limits_and_end_tokens() {
    let mut state = DecodeState::new();
    let (free, _) = stateless(&params(&[1, 2], Limit::Length(9)), 3);
    // The third token that would be drawn ends it, unless a limit comes first.
    let ends: Arc<[u32]> = Arc::from([free[4]]);
    assert!(!free[2..4].contains(&free[4]));
    for limit in [Limit::Length(2), Limit::Context(2), Limit::Length(3), Limit::Length(9)] {
        let params = SequenceParams { ends: ends.clone(), ..params(&[1, 2], limit) };
        state.join([Sequence::new(params).unwrap()]);
    }
    let reasons = |state: &DecodeState| -> Vec<_> {
        state.sequences().iter().map(Sequence::reason).collect()
    };
    step(&mut state, Noting::default()).unwrap();
    assert_eq!(reasons(&state), [None; 4]);
    step(&mut state, Noting::default()).unwrap();
    let (length, context) = (Some(FinishReason::Length), Some(FinishReason::Context));
    assert_eq!(reasons(&state), [length, context, None, None]);
    let refused = step(&mut state, Noting::default()).unwrap_err();
    assert_eq!(refused, Error::Ended { sequence: 0 });
    state.keep(&[2, 3]).unwrap();
    step(&mut state, Noting::default()).unwrap();
    assert_eq!(reasons(&state), [Some(FinishReason::Eos); 2]);
}

#[test]
fn proposals_stop_where_the_sequence_ends() {
    let (free, _) = stateless(&params(&[1], Limit::Length(9)), 4);
    let drawn = |limit, ends: &[u32]| {
        let mut state = DecodeState::new();
        let params = SequenceParams { ends: Arc::from(ends), ..params(&[1], limit) };
        state.join([Sequence::new(params).unwrap()]);
        let proposed = [free[1..].to_vec()];
        let rows: Vec<f32> = (1..=free.len()).flat_map(|end| model(&free[..end])).collect();
        let drawn = state.draw(Rows::Raw(&logits(&rows)), &proposed, Noting::default()).unwrap();
        state.commit(&drawn, None).unwrap();
        (drawn.committable()[0], state.sequences()[0].reason())
    };
    assert_eq!(drawn(Limit::Length(9), &[]), (5, None));
    assert_eq!(drawn(Limit::Context(3), &[]), (3, Some(FinishReason::Context)));
    assert_eq!(drawn(Limit::Length(9), &[free[2]]), (2, Some(FinishReason::Eos)));
}

#[test]
fn refusals_name_the_row_and_change_nothing() {
    let mut state = DecodeState::new();
    state.join([1, 2, 3].map(|id| Sequence::new(params(&[id], Limit::Length(9))).unwrap()));
    let before = tokens(&state);
    let mut rows = next_rows(&state);
    rows[SIZE + 7] = f32::NAN;
    let refused = state.step(&logits(&rows), Noting::default()).unwrap_err();
    assert_eq!(refused, Error::NotANumber { row: 1, column: 7 });
    let refused = state.step(&logits(&rows[SIZE..]), Noting::default()).unwrap_err();
    assert_eq!(refused, Error::LogitRows { got: 2, rows: 3 });
    let none = Noting::default();
    let refused = state.draw(Rows::Raw(&logits(&rows)), &[vec![]], none).unwrap_err();
    assert_eq!(refused, Error::PerSequence { name: "proposed", got: 1, sequences: 3 });
    let proposed = [vec![], vec![SIZE as u32], vec![]];
    let refused = state.draw(Rows::Raw(&logits(&rows)), &proposed, none).unwrap_err();
    let token = SIZE as u32;
    assert_eq!(refused, Error::UnknownToken { name: "proposed", token, size: SIZE });
    assert_eq!(state.keep(&[0, 3]).unwrap_err(), Error::NoSequence { row: 3, sequences: 3 });
    assert_eq!(state.fork(3, 0).unwrap_err(), Error::NoSequence { row: 3, sequences: 3 });
    assert_eq!(tokens(&state), before);

    rows[SIZE + 7] = 0.0;
    let logits = logits(&rows);
    let drawn = state.draw(Rows::Raw(&logits), &[], none).unwrap();
    let refused = state.commit(&drawn, Some(&[1, 1])).unwrap_err();
    assert_eq!(refused, Error::PerSequence { name: "counts", got: 2, sequences: 3 });
    let refused = state.commit(&drawn, Some(&[1, 1, 2])).unwrap_err();
    assert_eq!(refused, Error::NotCommittable { sequence: 2, count: 2, most: 1 });
    assert_eq!(tokens(&state), before);
    let other = state.clone();
    state.commit(&drawn, None).unwrap();
    assert_eq!(state.commit(&drawn, None).unwrap_err(), Error::StaleDraw);
    // A copy that has not changed since is the state that was drawn from.
    let mut copy = other;
    copy.commit(&drawn, None).unwrap();
    assert_eq!(tokens(&copy), tokens(&state));

    let short = Logits { vocabulary: SIZE - 1, ..logits };
    let rows = Rows::Processed { rows: &logits, raw: Some(&short) };
    let refused = state.draw(rows, &[], none).unwrap_err();
    assert_eq!(refused, Error::OtherVocabulary { got: SIZE - 1, size: SIZE });
}

#[test]
fn what_a_caller_changes_between_the_parts_is_drawn_from_but_allowed_has_the_last_word() {
    let processors = ProcessorParams { allowed: Some(vec![3, 4]), ..ProcessorParams::default() };
    let pipeline = Pipeline::new(Params { temperature: 0.0, ..Params::default() }, processors);
    let mut state = DecodeState::new();
    let params =
        SequenceParams { pipeline: Arc::new(pipeline.unwrap()), ..params(&[1], Limit::Length(9)) };
    state.join([Sequence::new(params).unwrap()]);
    let rows = vec![0.0; SIZE];
    let raw = logits(&rows);
    let mut processed = state.process(&raw, &[]).unwrap();
    assert_eq!(processed, rows);
    processed[4] = 1.0;
    processed[5] = 2.0;
    let changed = logits(&processed);
    let rows = Rows::Processed { rows: &changed, raw: None };
    let drawn = state.draw(rows, &[], Noting::default()).unwrap();
    assert_eq!(drawn.choices()[0].draw.token, 4);
    processed[3..5].fill(f32::NEG_INFINITY);
    let rows = Rows::Processed { rows: &logits(&processed), raw: None };
    let refused = state.draw(rows, &[], Noting::default()).unwrap_err();
    assert_eq!(refused, Error::AllBanned { row: 0, processors: "allowed".to_owned() });
}

#[test]
fn sequences_begin_with_room() {
    let refused = |params| Sequence::new(params).unwrap_err();
    assert_eq!(refused(params(&[1], Limit::Length(0))), Error::NoRoom(0));
    let resumed = SequenceParams { history: vec![1, 2, 3], ..params(&[1], Limit::Length(2)) };
    assert_eq!(refused(resumed.clone()), Error::NoRoom(0));
    let resumed = SequenceParams { limit: Limit::Length(3), ..resumed };
    assert!(Sequence::new(resumed).is_ok());
    let broken = SequenceParams { prompt: 2, ..params(&[1], Limit::Length(1)) };
    assert_eq!(refused(broken), Error::Prompt { row: 0, prompt: 2, size: 1 });
}
