//! What the processors refuse, and in which words.

use fastdecode_core::{DryParams, Error, History, ProcessorParams, ProcessorWorkspace, Processors};

const INF: f32 = f32::INFINITY;

/// All tokens are the prompt's.
fn after(tokens: &[u32]) -> History<'_> {
    History::new(tokens, tokens.len())
}

fn refusal(params: ProcessorParams) -> String {
    Processors::new(params).unwrap_err().to_string()
}

fn refusal_at(params: ProcessorParams, vocabulary: usize, history: History<'_>) -> String {
    let mut row = vec![0.0; vocabulary];
    let processors = Processors::new(params).unwrap();
    let result = processors.apply(&mut row, history, &mut ProcessorWorkspace::default());
    assert_eq!(row, vec![0.0; vocabulary], "a refused row is untouched");
    result.unwrap_err().to_string()
}

#[test]
fn parameters_that_are_refused() {
    let none = ProcessorParams::default;
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
        let params = ProcessorParams { repetition_penalty: value, ..none() };
        assert!(matches!(Processors::new(params), Err(Error::RepetitionPenalty(_))), "{value}");
    }
    assert_eq!(
        refusal(ProcessorParams { repetition_penalty: 0.0, ..none() }),
        "repetition_penalty=0 must be a finite float32 above 0 (1 is off, above 1 discourages repeats)"
    );
    assert_eq!(
        refusal(ProcessorParams { frequency_penalty: f64::NAN, ..none() }),
        "frequency_penalty=NaN must be a finite float32 (0 is off, above 0 discourages repeats)"
    );
    assert_eq!(
        refusal(ProcessorParams { presence_penalty: f64::INFINITY, ..none() }),
        "presence_penalty=inf must be a finite float32 (0 is off, above 0 discourages repeats)"
    );
    assert_eq!(
        refusal(ProcessorParams { no_repeat_ngram_size: -1, ..none() }),
        "no_repeat_ngram_size=-1 must be at least 1, or 0 to turn it off"
    );
    assert_eq!(
        refusal(ProcessorParams { bad_words: vec![vec![1], vec![]], ..none() }),
        "bad_words[1] is empty; give at least one token id, or leave it out"
    );
    assert_eq!(
        refusal(ProcessorParams { logit_bias: vec![(vec![], 1.0)], ..none() }),
        "logit_bias[0] is empty; give at least one token id, or leave it out"
    );
    assert_eq!(
        refusal(ProcessorParams { logit_bias: vec![(vec![3, 4], INF)], ..none() }),
        "logit_bias of [3, 4] is inf; give a finite float32, or -inf to ban it \
         (to force a token, use allowed)"
    );
    assert!(
        refusal(ProcessorParams { logit_bias: vec![(vec![3], f32::NAN)], ..none() })
            .contains("NaN")
    );
    assert_eq!(
        refusal(ProcessorParams { logit_bias: vec![(vec![3], 1.0), (vec![3], 2.0)], ..none() }),
        "logit_bias has [3] more than once; give each token or sequence one bias"
    );
    assert_eq!(
        refusal(ProcessorParams { allowed: Some(vec![]), ..none() }),
        "allowed=[] bans every token; give at least one id, or None to allow all"
    );
    assert_eq!(
        refusal(ProcessorParams { min_new_tokens: -2, ..none() }),
        "min_new_tokens=-2 must be at least 0 (0 is off)"
    );
}

#[test]
fn dry_parameters_that_are_refused() {
    let default = DryParams::default;
    let refusal = |dry| refusal(ProcessorParams { dry: Some(dry), ..Default::default() });
    for multiplier in [-0.5, f64::NAN, f64::INFINITY] {
        let message = refusal(DryParams { multiplier, ..default() });
        let rule = "must be finite and >= 0 (0 is off, 0.8 is usual)";
        assert_eq!(message, format!("dry_multiplier={multiplier} {rule}"));
    }
    for base in [0.5, f64::NAN, f64::INFINITY] {
        let message = refusal(DryParams { base, ..default() });
        assert_eq!(message, format!("dry_base={base} must be finite and >= 1 (1.75 is usual)"));
    }
    assert_eq!(
        refusal(DryParams { allowed_length: 0, ..default() }),
        "dry_allowed_length=0 must be at least 1 token (2 is usual)"
    );
    assert_eq!(
        refusal(DryParams { range: Some(0), ..default() }),
        "dry_range=0 must be at least 1 token; leave it out (None) to look at all"
    );
    assert_eq!(
        refusal(DryParams { sequence_breakers: vec![vec![]], ..default() }),
        "dry_sequence_breakers[0] is empty; give at least one token id, or leave it out"
    );
}

#[test]
fn rows_and_histories_that_are_refused() {
    let none = ProcessorParams::default;
    let history = after(&[1, 9]);
    assert_eq!(
        refusal_at(ProcessorParams { bad_words: vec![vec![9, 0], vec![1]], ..none() }, 9, history),
        "bad_words has token id 9, which is outside the vocabulary, 0..8"
    );
    let sequence_breakers = vec![vec![9]];
    let dry = DryParams { multiplier: 1.0, sequence_breakers, ..Default::default() };
    for params in [
        ProcessorParams { logit_bias: vec![(vec![9], 1.0)], ..none() },
        ProcessorParams { eos: vec![9], ..none() },
        ProcessorParams { allowed: Some(vec![0, 9]), ..none() },
        ProcessorParams { dry: Some(dry), ..none() },
    ] {
        let message = refusal_at(params, 9, history);
        assert!(message.ends_with(" has token id 9, which is outside the vocabulary, 0..8"));
    }
    assert_eq!(
        refusal_at(ProcessorParams { min_new_tokens: 5, ..none() }, 10, history),
        "min_new_tokens=5 works by banning the end-of-sequence tokens, and none are known; \
         give eos_token_id, or leave min_new_tokens out"
    );
    let params = ProcessorParams { no_repeat_ngram_size: 2, ..none() };
    assert_eq!(
        refusal_at(params.clone(), 9, history),
        "the history of row 0 has token id 9 at position 1, which is outside the vocabulary, 0..8; \
         leave padding out"
    );
    assert_eq!(
        refusal_at(params.clone(), 10, History::new(history.tokens(), 3)),
        "the history of row 0 has 2 tokens, fewer than the 3 of its prompt; \
         a history is the prompt and what was generated, so prompt_lengths is too large"
    );
    let mut row = [0.0; 9];
    let result = Processors::new(params).unwrap().apply(
        &mut row,
        history,
        &mut ProcessorWorkspace::default(),
    );
    assert!(
        result
            .unwrap_err()
            .in_row(4)
            .to_string()
            .starts_with("the history of row 4 has token id 9")
    );
}

#[test]
fn an_emptied_row_names_what_emptied_it() {
    let message = |params| Processors::new(params).unwrap().emptied(2).to_string();
    let params = ProcessorParams {
        logit_bias: vec![(vec![1], -INF), (vec![2], 1.0)],
        no_repeat_ngram_size: 1,
        bad_words: vec![vec![1]],
        min_new_tokens: 3,
        allowed: Some(vec![1]),
        ..Default::default()
    };
    assert_eq!(
        message(params),
        "logits row 2 has no token left after logit_bias, no_repeat_ngram_size=1, bad_words, \
         min_new_tokens=3, allowed; loosen what bans too much"
    );
    let harmless = ProcessorParams { logit_bias: vec![(vec![1], 1.0)], ..Default::default() };
    assert_eq!(Processors::new(harmless).unwrap().emptied(2), Error::NothingAllowed { row: 2 });
}
