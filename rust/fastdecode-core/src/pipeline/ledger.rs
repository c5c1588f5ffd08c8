//! The numbers recorded with a token: its probability, the mass that was cut, and the likeliest
//! alternatives.

use crate::error::Result;
use crate::law::entropy::Entropy;
use crate::law::weight::{Scale, WEIGHT_BITS};
use crate::law::{Draw, Law};
use crate::math::ln::ln;
use crate::row::order::Candidate;
use crate::row::select;
use crate::truncation::survivors::SurvivorWorkspace;
use fastdecode_simd::memory;

/// What led to a token, besides its [`Draw`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    /// ln of the token's probability as the model gave it, in nats.
    pub raw_logprob: f64,
    /// Its rank under the model, from 1.
    pub rank: u32,
    /// ln of the share of the mass that the truncations left, after processors and temperature.
    pub kept_logprob: f64,
    /// How many tokens could have been drawn.
    pub kept: u32,
    /// Entropy of the model's distribution, in nats.
    pub entropy_before: f64,
    /// Entropy of the law that was drawn from, in nats.
    pub entropy_after: f64,
    /// The model's likeliest tokens and ln of their probabilities, likeliest first.
    pub alternatives: Vec<(u32, f64)>,
}

impl Ledger {
    /// The ledger of a token drawn by `law` from `raw`, which has been surveyed into
    /// `workspace.tops` and has the maximum `max`; the law's own row may be a processed one.
    pub(crate) fn new(
        raw: &[f32],
        max: f32,
        law: &Law,
        draw: &Draw,
        alternatives: usize,
        workspace: &mut SurvivorWorkspace,
    ) -> Result<Self> {
        let model = Law::whole(law.level, raw, max, Scale::new(1.0));
        let before = Entropy::of(&model);
        let normaliser = f64::from(max) + ln(before.weight) - ln(1 << WEIGHT_BITS);
        let logprob = |logit: f32| f64::from(logit) - normaliser;
        let after = Entropy::of(law);
        let whole = Law::whole(law.level, law.row, law.max, law.scale);
        let token = Candidate::new(raw[draw.token as usize], draw.token as usize);
        let SurvivorWorkspace { tops, folded, keys, candidates, sums, .. } = workspace;
        let mut likeliest = Vec::new();
        if alternatives > 0 {
            let wanted = alternatives.min(raw.len());
            select::top_k(law.level, raw, tops, wanted, folded, keys, candidates);
            candidates.sort_unstable_by(Candidate::order);
            likeliest = memory::collect(candidates.iter().map(|x| (x.id, logprob(x.logit))))?;
        }
        Ok(Self {
            raw_logprob: logprob(token.logit),
            rank: rank(raw, token),
            kept_logprob: (ln(draw.total) - ln(whole.sum(sums))).min(0.0),
            kept: after.tokens as u32,
            entropy_before: before.nats(),
            entropy_after: after.nats(),
            alternatives: likeliest,
        })
    }
}

/// A token's place in the total order, from 1.
fn rank(row: &[f32], token: Candidate) -> u32 {
    let (before, from) = row.split_at(token.id as usize);
    let ties_and_above = before.iter().filter(|&&x| x >= token.logit).count();
    let above = from.iter().filter(|&&x| x > token.logit).count();
    (ties_and_above + above) as u32 + 1
}
