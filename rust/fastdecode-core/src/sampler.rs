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

/// Draws from a short list in the order of ids, as [`Law::token_at`] does from a whole row.
fn draw_from_list(list: &[Candidate], law: &Law, key: Key) -> Draw {
    let weight_of = |c: &Candidate| weight(c.logit - law.max, law.scale);
    let total = list.iter().map(weight_of).sum();
    let ticket = key.ticket(total);
    let index = first_above(list.iter().map(weight_of), ticket);
    Draw {
        token: list[index].id,
        weight: weight_of(&list[index]),
        ticket,
        total,
        kept: list.iter().filter(|c| weight_of(c) > 0).count() as u32,
    }
}

impl Draw {
    /// ln of the token's probability under the law it was drawn from, in nats.
    #[must_use]
    pub fn logprob(&self) -> f64 {
        ln(self.weight) - ln(self.total)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Params, Sampler, Scratch};
    use crate::error::Error;
    use crate::key::Key;
    use crate::level::Level;
    use crate::order::Candidate;

    fn sampler(temperature: f64, top_k: Option<i64>, top_p: Option<f64>) -> Sampler {
        Sampler::new(Params { temperature, top_k, top_p }).unwrap()
    }

    /// Logits with ties, near-ties, bans and spreads of every size.
    fn rows() -> impl Strategy<Value = Vec<f32>> {
        let ordinary = -8.0f32..8.0;
        let coarse = (-4i8..4).prop_map(f32::from);
        let banned = Just(f32::NEG_INFINITY);
        let extreme = prop_oneof![Just(f32::MIN), Just(f32::MAX), Just(-0.0), Just(1e-42)];
        let any = prop_oneof![6 => ordinary.boxed(), 6 => coarse.boxed(), 1 => banned.boxed(), 1 => extreme.boxed()];
        prop::collection::vec(any, 1..2000)
            .prop_filter("one token is left", |row| row.iter().any(|x| x.is_finite()))
    }

    fn samplers() -> impl Strategy<Value = Sampler> {
        let temperature = prop_oneof![Just(0.0), Just(1.0), 0.01..3.0, Just(1e-20), Just(1e20)];
        let top_k = prop::option::of(1i64..300);
        let top_p = prop::option::of(prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]);
        (temperature, top_k, top_p).prop_map(|(t, k, p)| sampler(t, k, p))
    }

    /// What survives, by sorting everything.
    fn plain_weights(sampler: &Sampler, row: &[f32]) -> Vec<u64> {
        let mut ranked: Vec<_> =
            row.iter().enumerate().map(|(id, &x)| Candidate::new(x, id)).collect();
        ranked.sort_by(Candidate::order);
        if sampler.scale.is_none() {
            ranked.truncate(1);
        }
        ranked.truncate(sampler.top_k);
        let scale = sampler.scale.unwrap_or(crate::weight::Scale::new(1.0));
        let max = ranked[0].logit;
        let of = |c: &Candidate| crate::weight::weight(c.logit - max, scale);
        if sampler.top_p < 1.0 {
            let total = ranked.iter().map(of).sum();
            let target = crate::nucleus::target_mass(sampler.top_p, total);
            let mut mass = 0;
            let crossing = ranked.iter().position(|c| {
                mass += of(c);
                mass >= target
            });
            ranked.truncate(crossing.unwrap() + 1);
        }
        let mut weights = vec![0; row.len()];
        for candidate in ranked {
            weights[candidate.id as usize] = of(&candidate);
        }
        weights
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// The whole map: each token's first and last ticket fall to it, and to no other.
        #[test]
        fn tickets_map_to_tokens_as_the_weights_say(row in rows(), sampler in samplers()) {
            let mut scratch = Scratch::default();
            let (law, total) = sampler.law(&row, &mut scratch).unwrap();
            let weights = plain_weights(&sampler, &row);
            prop_assert_eq!(&law.weights(), &weights);
            prop_assert_eq!(total.weight, weights.iter().sum::<u64>());
            prop_assert_eq!(total.tokens, weights.iter().filter(|&&w| w > 0).count() as u64);
            let mut cumulative = 0;
            for (id, &weight) in weights.iter().enumerate() {
                prop_assert_eq!(law.weight_of(id), weight);
                if weight > 0 {
                    prop_assert_eq!(law.token_at(&scratch.sums, cumulative), id);
                    cumulative += weight;
                    prop_assert_eq!(law.token_at(&scratch.sums, cumulative - 1), id);
                }
            }
        }

        /// Both paths to a token, the short list and the whole row, read the same map.
        #[test]
        fn sample_draws_from_the_law(row in rows(), sampler in samplers(), seed: u64) {
            let mut scratch = Scratch::default();
            let key = Key { seed, stream: 1, sample: 2, position: 3 };
            let draw = sampler.sample(&row, key, &mut scratch).unwrap();
            let (law, total) = sampler.law(&row, &mut scratch).unwrap();
            prop_assert_eq!(draw, law.draw(&scratch.sums, total, key));
            prop_assert_eq!(draw.token as usize, law.token_at(&scratch.sums, draw.ticket));
            prop_assert!(draw.weight > 0 && draw.logprob() <= 0.0);
        }

        /// The instruction set changes nothing.
        #[test]
        fn levels_agree(row in rows(), sampler in samplers(), seed: u64) {
            let mut scratch = Scratch::default();
            let key = Key { seed, ..Key::default() };
            let portable = sampler.with_level(Level::Portable);
            let weights = portable.weights(&row, &mut scratch).unwrap();
            let draw = portable.sample(&row, key, &mut scratch).unwrap();
            for level in Level::available() {
                let other = sampler.with_level(level);
                prop_assert_eq!(&other.weights(&row, &mut scratch).unwrap(), &weights);
                prop_assert_eq!(other.sample(&row, key, &mut scratch).unwrap(), draw);
            }
        }

        /// Tokens that cannot be drawn, appended, change nothing.
        #[test]
        fn padding_with_bans_changes_nothing(
            row in rows(), sampler in samplers(), seed: u64, padding in 0usize..1000,
        ) {
            let mut scratch = Scratch::default();
            let key = Key { seed, ..Key::default() };
            let draw = sampler.sample(&row, key, &mut scratch).unwrap();
            let mut padded = row.clone();
            padded.resize(row.len() + padding, f32::NEG_INFINITY);
            prop_assert_eq!(sampler.sample(&padded, key, &mut scratch).unwrap(), draw);
        }
    }

    #[test]
    fn many_samples_are_single_ones() {
        let row: Vec<f32> = (0..700).map(|i| (i % 13) as f32 * 0.5).collect();
        let mut scratch = Scratch::default();
        for sampler in [sampler(1.0, None, None), sampler(0.8, Some(20), Some(0.9))] {
            let key = Key { seed: 5, ..Key::default() };
            let many = sampler.sample_many(&row, key, 50, &mut scratch).unwrap();
            for (sample, draw) in (0..).zip(many) {
                let key = Key { sample, ..key };
                assert_eq!(sampler.sample(&row, key, &mut scratch).unwrap(), draw);
            }
        }
    }

    #[test]
    fn refusals_name_the_place() {
        let mut scratch = Scratch::default();
        let sampler = sampler(1.0, None, None);
        let mut try_row = |row: &[f32]| sampler.sample(row, Key::default(), &mut scratch);
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(try_row(&[]), Err(Error::EmptyVocabulary));
        assert_eq!(try_row(&[0.0, nan]), Err(Error::NotANumber { row: 0, column: 1 }));
        assert_eq!(try_row(&[0.0, -nan]), Err(Error::NotANumber { row: 0, column: 1 }));
        assert_eq!(try_row(&[inf, nan]), Err(Error::PositiveInfinity { row: 0, column: 0 }));
        assert_eq!(try_row(&[-inf, -inf]), Err(Error::NothingAllowed { row: 0 }));
        for position in [0, 15, 16, 63, 64, 200, 256] {
            let mut row = vec![0.0; 257];
            row[position] = nan;
            assert_eq!(try_row(&row), Err(Error::NotANumber { row: 0, column: position }));
        }
    }

    #[test]
    fn parameters_out_of_range() {
        let new = |temperature, top_k, top_p| Sampler::new(Params { temperature, top_k, top_p });
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(new(temperature, None, None), Err(Error::Temperature(_))));
        }
        assert_eq!(new(1.0, Some(0), None), Err(Error::TopK(0)));
        for top_p in [-0.1, 1.5, 90.0, f64::NAN] {
            assert!(matches!(new(1.0, None, Some(top_p)), Err(Error::TopP(_))));
        }
        let message = Error::TopP(90.0).to_string();
        assert_eq!(message, "top_p=90 must be between 0 and 1; for 90% write 0.9");
    }
}
