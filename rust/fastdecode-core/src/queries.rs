//! Queries on a row of raw logits: its likeliest tokens and its log-probabilities.
//!
//! Log-probabilities are those of the integer law at temperature 1: the same bits on every machine,
//! within 1e-6 of the exact value.

use crate::error::{Error, Result};
use crate::law::Law;
use crate::law::weight::{Scale, WEIGHT_BITS};
use crate::math::ln::ln;
use crate::row::order::Candidate;
use crate::row::scan::{first_equal, survey};
use crate::row::select;
use crate::truncation::survivors::SurvivorWorkspace;
use crate::workspace::Workspace;
use fastdecode_simd::{Level, memory};

/// The likeliest token: the first in the total order.
///
/// # Errors
/// NaN, +inf, an empty row, a row of -inf alone, or one that is too long.
pub fn argmax(level: Level, row: &[f32], workspace: &mut Workspace) -> Result<u32> {
    let max = survey(level, row, &mut workspace.survivors.tops)?;
    Ok(first_equal(level, row, &workspace.survivors.tops, max) as u32)
}

/// The `k` likeliest tokens, likeliest first.
///
/// # Errors
/// As [`argmax`], and [`Error::K`] for a `k` that is not between 1 and the row's length.
pub fn top_k(
    level: Level,
    row: &[f32],
    k: i64,
    workspace: &mut Workspace,
) -> Result<Vec<Candidate>> {
    let size = row.len();
    let wanted = usize::try_from(k).ok().filter(|k| (1..=size).contains(k));
    let wanted = wanted.ok_or(Error::K { k, size })?;
    let SurvivorWorkspace { tops, folded, keys, candidates, .. } = &mut workspace.survivors;
    survey(level, row, tops)?;
    select::top_k(level, row, tops, wanted, folded, keys, candidates);
    let mut best = memory::collect(candidates.iter().copied())?;
    best.sort_unstable_by(Candidate::order);
    Ok(best)
}

/// ln of the sum of the exponentials of a row, in nats.
///
/// # Errors
/// NaN, +inf, an empty row, or one without a finite entry.
pub fn logsumexp(level: Level, row: &[f32], workspace: &mut Workspace) -> Result<f64> {
    let max = survey(level, row, &mut workspace.survivors.tops)?;
    let law = Law::whole(level, row, max, Scale::new(1.0));
    let total = law.sum(&mut workspace.survivors.sums);
    Ok(f64::from(max) + (ln(total) - ln(1 << WEIGHT_BITS)))
}

/// ln of one token's probability, in nats; -inf for a banned token.
///
/// # Errors
/// NaN, +inf, an empty row, or one without a finite entry, and [`Error::Token`] for an id outside the vocabulary.
pub fn token_logprob(
    level: Level,
    row: &[f32],
    token: i64,
    workspace: &mut Workspace,
) -> Result<f64> {
    let index = usize::try_from(token).ok().filter(|&index| index < row.len());
    let Some(index) = index else {
        return Err(Error::Token { row: 0, token, size: row.len() });
    };
    Ok(f64::from(row[index]) - logsumexp(level, row, workspace)?)
}

/// ln of every token's probability, in nats.
///
/// # Errors
/// NaN, +inf, an empty row, or one without a finite entry.
pub fn log_softmax(level: Level, row: &[f32], workspace: &mut Workspace) -> Result<Vec<f64>> {
    let normaliser = logsumexp(level, row, workspace)?;
    Ok(memory::collect(row.iter().map(|&logit| f64::from(logit) - normaliser))?)
}
