//! Log-probabilities of a row as the model gave it: the integer law at temperature 1, so the same
//! bits on every machine, within 1e-6 of the exact value.

use crate::error::{Error, Result};
use crate::law::Law;
use crate::law::weight::{Scale, WEIGHT_BITS};
use crate::math::ln::ln;
use crate::pipeline::sampler::Workspace;
use crate::row::scan::survey;
use fastdecode_simd::Level;

/// ln of the sum of the exponentials of a row, in nats.
///
/// # Errors
/// NaN, +inf, an empty row, or one without a finite entry.
pub fn logsumexp(level: Level, row: &[f32], workspace: &mut Workspace) -> Result<f64> {
    let max = survey(level, row, &mut workspace.tops)?;
    let law = Law::whole(level, row, max, Scale::new(1.0));
    let total = law.sum(&mut workspace.sums);
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
    Ok(row.iter().map(|&logit| f64::from(logit) - normaliser).collect())
}
