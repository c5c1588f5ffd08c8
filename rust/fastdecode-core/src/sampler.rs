//! The pipeline from a row of logits to a token: validated parameters, and scratch space.

use crate::error::{Error, Result};
use crate::key::Key;
use crate::law::{Draw, Law, Total, first_above};
use crate::level::Level;
use crate::ln::ln;
use crate::nucleus;
use crate::order::Candidate;
use crate::scan::{maximum, position_of};
use crate::select;
use crate::weight::{Scale, weight};

/// What a caller asks for, not yet checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// Divides the logits; 0 is the greedy limit.
    pub temperature: f64,
    /// Keep exactly this many tokens.
    pub top_k: Option<i64>,
    /// Keep the smallest set with this mass.
    pub top_p: Option<f64>,
}

impl Default for Params {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None }
    }
}

/// Checked parameters; made once, used for every row and step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    params: Params,
    level: Level,
    /// None at temperature 0.
    scale: Option<Scale>,
    top_k: usize,
    top_p: f64,
}

/// Space reused between rows; one for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) sums: Vec<u64>,
    masses: Vec<u64>,
    pub(crate) maxima: Vec<f32>,
    pub(crate) candidates: Vec<Candidate>,
}

impl Sampler {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::Temperature`], [`Error::TopK`], [`Error::TopP`].
    pub fn new(params: Params) -> Result<Self> {
        let Params { temperature, top_k, top_p } = params;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Error::Temperature(temperature));
        }
        if let Some(k) = top_k
            && k < 1
        {
            return Err(Error::TopK(k));
        }
        if let Some(p) = top_p
            && !(0.0..=1.0).contains(&p)
        {
            return Err(Error::TopP(p));
        }
        Ok(Self {
            params,
            level: Level::detect(),
            scale: (temperature > 0.0).then(|| Scale::new(temperature)),
            top_k: top_k.map_or(usize::MAX, |k| usize::try_from(k).unwrap_or(usize::MAX)),
            top_p: top_p.unwrap_or(1.0),
        })
    }

    /// The same pipeline on another instruction set; tests show that nothing changes.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The parameters it was made from.
    #[must_use]
    pub fn params(&self) -> Params {
        self.params
    }

    /// Draws the token that `key` decides.
    ///
    /// # Errors
    /// A row that is no row of logits: see [`maximum`].
    pub fn sample(&self, row: &[f32], key: Key, scratch: &mut Scratch) -> Result<Draw> {
        let max = maximum(self.level, row)?;
        if self.selects_first(row.len()) {
            let (list, law) = self.listed(row, max, scratch);
            return Ok(draw_from_list(list, &law, key));
        }
        let (law, total) = self.truncated(row, max, scratch);
        Ok(law.draw(&scratch.sums, total, key))
    }

    /// Draws `count` tokens for `key` and the samples after its own, as that many calls of
    /// [`Sampler::sample`] would.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn sample_many(
        &self,
        row: &[f32],
        key: Key,
        count: usize,
        scratch: &mut Scratch,
    ) -> Result<Vec<Draw>> {
        let (law, total) = self.law(row, scratch)?;
        let keys = (0..count).map(|i| Key { sample: key.sample.wrapping_add(i as u32), ..key });
        Ok(keys.map(|key| law.draw(&scratch.sums, total, key)).collect())
    }

    /// The law that [`Sampler::sample`] draws from, with its total.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn law<'a>(&self, row: &'a [f32], scratch: &mut Scratch) -> Result<(Law<'a>, Total)> {
        let max = maximum(self.level, row)?;
        if !self.selects_first(row.len()) {
            return Ok(self.truncated(row, max, scratch));
        }
        let (list, mut law) = self.listed(row, max, scratch);
        law.last = list.iter().copied().max_by(Candidate::order);
        let total = law.sum(&mut scratch.sums);
        Ok((law, total))
    }

    /// The integer weight of every token: the whole law.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn weights(&self, row: &[f32], scratch: &mut Scratch) -> Result<Vec<u64>> {
        let (law, _) = self.law(row, scratch)?;
        Ok(law.weights())
    }

    /// The probability of every token, `w / W`: exactly what is drawn from.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(&self, row: &[f32], scratch: &mut Scratch) -> Result<Vec<f64>> {
        let (law, total) = self.law(row, scratch)?;
        let total = total.weight as f64;
        Ok(law.weights().into_iter().map(|weight| weight as f64 / total).collect())
    }

    /// Whether a short list comes before everything else: greedy or top-k.
    fn selects_first(&self, len: usize) -> bool {
        self.scale.is_none() || self.top_k < len
    }

    /// The survivors of top-k, then top-p, in the order of ids.
    fn listed<'a, 's>(
        &self,
        row: &'a [f32],
        max: f32,
        scratch: &'s mut Scratch,
    ) -> (&'s [Candidate], Law<'a>) {
        let Scratch { maxima, candidates, .. } = scratch;
        // At temperature 0 one token is left; any scale gives it the whole law.
        let scale = self.scale.unwrap_or(Scale::new(1.0));
        let law = Law { level: self.level, row, max, scale, last: None };
        if self.scale.is_none() {
            candidates.clear();
            candidates.push(Candidate::new(max, position_of(self.level, row, max)));
            return (candidates, law);
        }
        select::top_k(self.level, row, self.top_k, maxima, candidates);
        if self.top_p < 1.0 {
            let weights = candidates.iter().map(|c| weight(c.logit - max, scale));
            let total = weights.clone().sum();
            let kept = nucleus::prefix(self.top_p, weights, total);
            candidates.truncate(kept);
        }
        candidates.sort_unstable_by_key(|c| c.id);
        (candidates, law)
    }

    /// The law of a full row, its blocks summed in `scratch.sums`.
    fn truncated<'a>(&self, row: &'a [f32], max: f32, scratch: &mut Scratch) -> (Law<'a>, Total) {
        let scale = self.scale.unwrap_or(Scale::new(1.0));
        let Scratch { sums, masses, candidates, .. } = scratch;
        let mut law = Law { level: self.level, row, max, scale, last: None };
        let total = law.sum(sums);
        if self.top_p >= 1.0 {
            return (law, total);
        }
        let last = nucleus::last_kept(&law, self.top_p, total.weight, masses, candidates);
        law.last = Some(last);
        let total = law.sum(sums);
        (law, total)
    }
}

fn draw_from_list(list: &[Candidate], law: &Law, key: Key) -> Draw {
    let weight_of = |c: &Candidate| weight(c.logit - law.max, law.scale);
    let total: u64 = list.iter().map(weight_of).sum();
    let ticket = key.ticket(total);
    let mut rest = ticket;
    let mut drawn = list[0];
    for candidate in list {
        drawn = *candidate;
        let weight = weight_of(candidate);
        if rest < weight {
            break;
        }
        rest -= weight;
    }
    Draw {
        token: drawn.id as usize,
        weight: weight_of(&drawn),
        ticket,
        total,
        kept: list.iter().filter(|c| weight_of(c) > 0).count() as u64,
    }
}

impl Draw {
    /// ln of the token's probability under the law it was drawn from, in nats.
    #[must_use]
    pub fn logprob(&self) -> f64 {
        ln(self.weight) - ln(self.total)
    }
}

/// The token a given ticket falls to among these weights: the whole map, for proofs.
#[must_use]
pub fn token_at(weights: &[u64], ticket: u64) -> usize {
    first_above(weights, ticket)
}
