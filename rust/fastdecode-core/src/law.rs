//! The law of one row: which tokens survive, their integer weights, their total, and the draw.

use crate::key::Key;
use crate::level::{Level, kernel};
use crate::order::Candidate;
use crate::scan::LANES;
use crate::weight::{Scale, weight};

/// Tokens whose weights are summed together, so that a draw looks into one block only.
pub(crate) const BLOCK: usize = 512;

/// A row with its truncations decided: every token up to and including `last`, in the total order.
#[derive(Debug, Clone, Copy)]
pub struct Law<'a> {
    pub(crate) level: Level,
    pub(crate) row: &'a [f32],
    pub(crate) max: f32,
    pub(crate) scale: Scale,
    pub(crate) last: Option<Candidate>,
}

/// What a law adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// The sum of the weights, W.
    pub weight: u64,
    /// Tokens with a weight above zero: those that can be drawn.
    pub tokens: u64,
}

/// A token drawn, with the numbers that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Draw {
    /// The token id.
    pub token: u32,
    /// Its weight; `weight / total` is its probability under the law.
    pub weight: u64,
    /// The uniform integer drawn, in `[0, total)`.
    pub ticket: u64,
    /// The law's total weight, W.
    pub total: u64,
    /// How many tokens could have been drawn.
    pub kept: u32,
}

impl Law<'_> {
    /// The weight of a token, zero where it was cut.
    #[must_use]
    pub fn weight_of(&self, id: usize) -> u64 {
        let logit = self.row[id];
        if logit >= self.bound_at(id) { weight(logit - self.max, self.scale) } else { 0 }
    }

    /// The smallest logit that survives at this id: ties go to the ids up to the last survivor's.
    fn bound_at(&self, id: usize) -> f32 {
        match self.last {
            None => f32::NEG_INFINITY,
            Some(last) if id <= last.id as usize => last.logit,
            Some(last) => last.logit.next_up(),
        }
    }

    /// Sums the weights of all blocks of the row, keeping a sum per block in `sums`.
    pub(crate) fn sum(&self, sums: &mut Vec<u64>) -> Total {
        sums.clear();
        let mut total = Total::default();
        for start in (0..self.row.len()).step_by(BLOCK) {
            let block = self.block_total(start);
            sums.push(block.weight);
            total.weight += block.weight;
            total.tokens += block.tokens;
        }
        total
    }

    fn block_total(&self, start: usize) -> Total {
        let end = (start + BLOCK).min(self.row.len());
        let split = self.tie_border().clamp(start, end);
        let (sum_low, count_low) = self.span_total(start, split);
        let (sum_high, count_high) = self.span_total(split, end);
        Total { weight: sum_low + sum_high, tokens: count_low + count_high }
    }

    /// The id from which on ties with the last survivor are cut.
    fn tie_border(&self) -> usize {
        self.last.map_or(0, |last| last.id as usize + 1)
    }

    fn span_total(&self, start: usize, end: usize) -> (u64, u64) {
        if start == end {
            return (0, 0);
        }
        span_sum(self.level, &self.row[start..end], self.bound_at(start), self.max, self.scale)
    }

    /// The first token whose cumulative weight, in the order of ids, exceeds `ticket`.
    /// `sums` are this law's own, from [`Law::sum`], and `ticket` is below their total.
    pub(crate) fn token_at(&self, sums: &[u64], ticket: u64) -> usize {
        let mut rest = ticket;
        let mut block = 0;
        while rest >= sums[block] {
            rest -= sums[block];
            block += 1;
        }
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.row.len());
        let mut weights = [0u64; BLOCK];
        let split = self.tie_border().clamp(start, end);
        self.span_weights(start, split, &mut weights[..split - start]);
        self.span_weights(split, end, &mut weights[split - start..end - start]);
        start + first_above(weights, rest)
    }

    fn span_weights(&self, start: usize, end: usize, out: &mut [u64]) {
        if start < end {
            let bound = self.bound_at(start);
            span_fill(self.level, &self.row[start..end], bound, self.max, self.scale, out);
        }
    }

    /// Every token's weight.
    #[must_use]
    pub fn weights(&self) -> Vec<u64> {
        let mut weights = vec![0; self.row.len()];
        let split = self.tie_border().min(self.row.len());
        let (low, high) = weights.split_at_mut(split);
        self.span_weights(0, split, low);
        self.span_weights(split, self.row.len(), high);
        weights
    }

    pub(crate) fn draw(&self, sums: &[u64], total: Total, key: Key) -> Draw {
        let ticket = key.ticket(total.weight);
        let token = self.token_at(sums, ticket);
        Draw {
            token: token as u32,
            weight: self.weight_of(token),
            ticket,
            total: total.weight,
            kept: total.tokens as u32,
        }
    }
}

/// The index of the first weight at which the running sum exceeds `ticket`.
pub(crate) fn first_above(weights: impl IntoIterator<Item = u64>, ticket: u64) -> usize {
    let mut sum = 0;
    for (index, weight) in weights.into_iter().enumerate() {
        sum += weight;
        if sum > ticket {
            return index;
        }
    }
    unreachable!("the ticket is below the total of the weights")
}

kernel! {
    fn span_sum(span: &[f32], bound: f32, max: f32, scale: Scale) -> (u64, u64) = span_sum_body;
}
kernel! {
    fn span_fill(span: &[f32], bound: f32, max: f32, scale: Scale, out: &mut [u64]) -> () = span_fill_body;
}

#[inline(always)]
fn bounded_weight(logit: f32, bound: f32, max: f32, scale: Scale) -> u64 {
    let weight = weight(logit - max, scale);
    if logit >= bound { weight } else { 0 }
}

#[inline(always)]
fn span_sum_body(span: &[f32], bound: f32, max: f32, scale: Scale) -> (u64, u64) {
    let mut sums = [0u64; LANES];
    let mut counts = [0u64; LANES];
    let (chunks, rest) = span.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let weight = bounded_weight(chunk[lane], bound, max, scale);
            sums[lane] += weight;
            counts[lane] += u64::from(weight > 0);
        }
    }
    let mut sum = 0;
    let mut count = 0;
    for lane in 0..LANES {
        sum += sums[lane];
        count += counts[lane];
    }
    for &logit in rest {
        let weight = bounded_weight(logit, bound, max, scale);
        sum += weight;
        count += u64::from(weight > 0);
    }
    (sum, count)
}

#[inline(always)]
fn span_fill_body(span: &[f32], bound: f32, max: f32, scale: Scale, out: &mut [u64]) {
    for (&logit, out) in span.iter().zip(out) {
        *out = bounded_weight(logit, bound, max, scale);
    }
}
