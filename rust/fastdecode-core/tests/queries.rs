//! Log-probabilities against double precision, which is exact enough: within 1e-6 is promised.

mod common;

use common::rows;
use fastdecode_core::queries::{log_softmax, logsumexp, token_logprob};
use fastdecode_core::{Error, Level, Workspace};

fn exact_logsumexp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
    f64::from(max) + sum.ln()
}

#[test]
fn within_a_millionth_of_the_exact_value() {
    let mut workspace = Workspace::default();
    for len in [1, 2, 17, 600, 5000] {
        for row in rows(len, 11) {
            let exact = exact_logsumexp(&row);
            // Beside a maximum of 3e38 a double has no millionths.
            let allowed = 1e-6 + exact.abs() * f64::EPSILON;
            for level in Level::available() {
                let got = logsumexp(level, &row, &mut workspace).unwrap();
                assert!((got - exact).abs() <= allowed, "{len}: {got} for {exact}");
                let all = log_softmax(level, &row, &mut workspace).unwrap();
                for (id, (&logit, &logprob)) in row.iter().zip(&all).enumerate() {
                    assert_eq!(logprob, f64::from(logit) - got);
                    let id = i64::try_from(id).unwrap();
                    if id % 97 == 0 {
                        assert_eq!(token_logprob(level, &row, id, &mut workspace), Ok(logprob));
                    }
                }
            }
        }
    }
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let mut workspace = Workspace::default();
    let mut of = |token| token_logprob(Level::detect(), &[0.0, 1.0], token, &mut workspace);
    for token in [-1, 2, i64::MIN, i64::MAX] {
        assert_eq!(of(token), Err(Error::Token { row: 0, token, size: 2 }));
    }
    assert!(of(1).is_ok());
}

#[test]
fn rows_that_are_none_are_refused() {
    let mut workspace = Workspace::default();
    let banned = [f32::NEG_INFINITY];
    assert_eq!(logsumexp(Level::detect(), &[], &mut workspace), Err(Error::EmptyVocabulary));
    assert_eq!(
        log_softmax(Level::detect(), &banned, &mut workspace),
        Err(Error::NothingAllowed { row: 0 })
    );
}
