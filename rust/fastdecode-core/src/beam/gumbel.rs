//! Draws continuations without replacement, the largest perturbed log-probability first.
//!
//! Adding independent Gumbel noise to log-probabilities and taking the k largest draws k without
//! replacement (Vieira, 2014). The noise of a whole vocabulary is never generated: the maximum over
//! a set is Gumbel at the log of its mass and falls on each member in proportion to its
//! probability, and the maximum over the rest has the same distribution, truncated above (Maddison,
//! Tarlow and Minka, 2014). So each continuation costs one uniform number and one draw from the
//! integer law of the remaining tokens.

use super::continuation::Continuation;
use crate::error::{Error, Result};
use crate::math::exp::exp;
use crate::math::ln::{ln, ln_real};
use crate::pipeline::sampler::Sampler;
use crate::rng::key::{Key, Purpose};
use crate::truncation::DrawContext;
use crate::workspace::Workspace;
use fastdecode_simd::memory;

/// The low bits of [`Key::sample`], which hold the number of a beam's draw; the beam's number is
/// above.
const DRAW_BITS: u32 = 20;

/// The law of one beam's next token, without the tokens that have been drawn already.
#[derive(Debug, Clone, Default)]
pub(super) struct Noisy {
    weights: Vec<u64>,
    left: u64,
    whole: u64,
    logits: Vec<f32>,
    normaliser: f64,
    drawn: u32,
}

/// What a beam's draws are keyed by and start from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// The beam's index among the rows of its prompt.
    pub parent: u32,
    /// Its log-probability: the log-mass of all its continuations.
    pub score: f64,
    /// Their largest perturbed log-probability, if it is already known.
    pub first: Option<f64>,
    /// The key of this step; its sample is replaced.
    pub key: Key,
}

impl Noisy {
    /// Reads a row; `processed` is the row after the processors, where there are any.
    pub fn read(
        row: &[f32],
        processed: Option<&[f32]>,
        normaliser: f64,
        sampler: &Sampler,
        workspace: &mut Workspace,
    ) -> Result<Self> {
        let weights =
            match sampler.weights(processed.unwrap_or(row), DrawContext::default(), workspace) {
                // The bans leave nothing: this beam has no continuation.
                Err(Error::NothingAllowed { .. }) if processed.is_some() => Vec::new(),
                weights => weights?,
            };
        let whole = weights.iter().sum();
        let logits = memory::collect(row.iter().copied())?;
        Ok(Self { weights, left: whole, whole, logits, normaliser, drawn: 0 })
    }

    /// The next continuation, or None once all have been drawn; `bound` is the noise of the
    /// previous one.
    fn next(&mut self, source: &Source, bound: f64) -> Option<Continuation> {
        if self.left == 0 {
            return None;
        }
        let key = Key { sample: source.parent << DRAW_BITS | self.drawn, ..source.key };
        let gumbel = match source.first {
            Some(known) if self.drawn == 0 => known,
            _ => {
                let mass = source.score + (ln(self.left) - ln(self.whole));
                truncated_gumbel(mass, bound, key.open_uniform(Purpose::Gumbel))
            }
        };
        let mut ticket = key.ticket(self.left);
        let token = self.weights.iter().position(|&weight| {
            let here = ticket < weight;
            ticket = ticket.wrapping_sub(weight);
            here
        })?;
        let weight = std::mem::take(&mut self.weights[token]);
        self.left -= weight;
        self.drawn += 1;
        let logprob = f64::from(self.logits[token]) - self.normaliser;
        // A draw of whole sequences sums log-probabilities under the law that it draws from,
        // otherwise under the model.
        let step = if source.first.is_some() { ln(weight) - ln(self.whole) } else { logprob };
        let score = source.score + step;
        Some(Continuation { parent: source.parent, token: token as u32, logprob, score, gumbel })
    }
}

/// The `count` continuations of all rows with the largest noise, largest first.
pub(super) fn largest(rows: &mut [(Source, Noisy)], count: usize) -> Vec<Continuation> {
    let mut heads: Vec<Option<Continuation>> =
        rows.iter_mut().map(|(source, noisy)| noisy.next(source, f64::INFINITY)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let live = (0..heads.len()).filter_map(|row| heads[row].map(|head| (row, head.gumbel)));
        // On a tie the earlier row wins, as `reduce` keeps it.
        let Some((row, bound)) = live.reduce(|a, b| if b.1 > a.1 { b } else { a }) else {
            break;
        };
        let (source, noisy) = &mut rows[row];
        chosen.extend(std::mem::replace(&mut heads[row], noisy.next(source, bound)));
    }
    chosen
}

/// A Gumbel variate with this location, truncated above at `bound`, computed from a uniform one.
pub(super) fn truncated_gumbel(location: f64, bound: f64, uniform: f64) -> f64 {
    let exponential = -ln_real(uniform);
    let gumbel = location - ln_real(exp((location - bound).min(700.0)) + exponential);
    if gumbel < bound { gumbel } else { bound }
}

/// The chance that a sequence's noise exceeds `threshold`: its inclusion probability.
pub(super) fn inclusion(logprob: f64, threshold: f64) -> f64 {
    let rate = exp(logprob - threshold);
    // 1 - exp(-rate), without losing the digits of a small rate.
    if rate < 1e-5 { rate * (1.0 - rate * (0.5 - rate / 6.0)) } else { 1.0 - exp(-rate) }
}

#[cfg(test)]
mod tests {
    use super::{Noisy, Source, inclusion, largest, truncated_gumbel};
    use crate::pipeline::sampler::Sampler;
    use crate::rng::key::Key;
    use crate::truncation::Params;
    use crate::workspace::Workspace;

    fn rows(count: u32, seed: u64, rows: &[&[f32]]) -> Vec<(Source, Noisy)> {
        let sampler = Sampler::new(Params::default()).unwrap();
        let mut workspace = Workspace::default();
        (0..count)
            .zip(rows)
            .map(|(parent, row)| {
                let key = Key { seed, ..Key::default() };
                let source = Source { parent, score: 0.0, first: None, key };
                (source, Noisy::read(row, None, 0.0, &sampler, &mut workspace).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_continuation_comes_once_and_the_noise_falls() {
        let all = largest(&mut rows(2, 3, &[&[0.0, 1.0, 2.0], &[1.0, f32::NEG_INFINITY]]), 9);
        let mut seen: Vec<_> = all.iter().map(|c| (c.parent, c.token)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0)]);
        assert!(all.is_sorted_by(|a, b| a.gumbel >= b.gumbel));
    }

    /// Pairs drawn without replacement from a law of four, against their exact odds
    /// `p_i * p_j / (1 - p_i)`: chi-square with 11 degrees of freedom, 99.99% at 37.4.
    #[test]
    fn pairs_without_replacement() {
        let mass = [1.0f64, 2.0, 3.0, 4.0];
        let logits: Vec<f32> = mass.iter().map(|m| m.ln() as f32).collect();
        // Two rows whose union is the law: the pair must not depend on how it is split.
        let (left, right) = logits.split_at(1);
        let right: Vec<f32> = right.to_vec();
        let draws = 20_000u32;
        let mut counts = [[0u32; 4]; 4];
        for seed in 0..u64::from(draws) {
            let mut both = rows(2, seed, &[left, &right]);
            both[0].0.score = (1.0f64 / 10.0).ln();
            both[1].0.score = (9.0f64 / 10.0).ln();
            let pair = largest(&mut both, 2);
            let id = |i: usize| (pair[i].parent + pair[i].token) as usize;
            counts[id(0)][id(1)] += 1;
        }
        let mut chi = 0.0;
        for i in 0..4 {
            for j in (0..4).filter(|&j| j != i) {
                let odds = mass[i] / 10.0 * mass[j] / (10.0 - mass[i]);
                let expected = odds * f64::from(draws);
                chi += (f64::from(counts[i][j]) - expected).powi(2) / expected;
            }
        }
        assert!(chi < 37.4, "chi-square {chi}");
    }

    #[test]
    fn noise_stays_below_its_bound() {
        for uniform in [1e-16, 0.3, 0.999] {
            assert!(truncated_gumbel(-1.0, -5.0, uniform) <= -5.0);
            assert!(truncated_gumbel(-800.0, 2.0, uniform) <= 2.0);
        }
        assert!(
            (truncated_gumbel(0.0, f64::INFINITY, 0.5) + std::f64::consts::LN_2.ln()).abs() < 1e-15
        );
    }

    #[test]
    fn inclusion_probabilities() {
        assert_eq!(inclusion(-3.0, f64::NEG_INFINITY), 1.0);
        for (logprob, threshold) in [(-1.0, -1.0f64), (-9.0, 4.0), (-14.0, 0.0)] {
            let exact = -(-(logprob - threshold).exp()).exp_m1();
            assert!((inclusion(logprob, threshold) / exact - 1.0).abs() < 1e-11);
        }
    }
}
