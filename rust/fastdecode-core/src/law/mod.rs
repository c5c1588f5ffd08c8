//! The law of one row: which tokens survive, their integer weights, their total, and the draw.

pub(crate) mod bounds;
pub(crate) mod entropy;
pub(crate) mod estimate;
pub(crate) mod groups;
pub(crate) mod share;
pub mod weight;

use crate::error::{Error, Result};
use crate::law::bounds::Bounds;
use crate::law::weight::{CAPACITY, Halves, Real, Scale, weight};
use crate::math::ln::ln;
use crate::row::order::Candidate;
use fastdecode_simd::Level;
use fastdecode_simd::{LANES, Lanes, kernel, memory};

/// The number of tokens that share a sum of weights, so that a draw scans one block only.
pub(crate) const BLOCK: usize = 512;

const _: () = assert!(BLOCK <= CAPACITY);

/// Vectors of tokens that [`whole_sum`] weighs at a time.
const BESIDE: usize = 2;

/// A row after its truncations. The survivors are always an interval of the total order: every
/// token from `first` to `last`, both included.
#[derive(Debug, Clone, Copy)]
pub struct Law<'a> {
    pub(crate) level: Level,
    pub(crate) row: &'a [f32],
    pub(crate) max: f32,
    pub(crate) scale: Scale,
    /// The first survivor; None is the first token of the row.
    pub(crate) first: Option<Candidate>,
    /// The last survivor; None is the last token of the row.
    pub(crate) last: Option<Candidate>,
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
}

impl Draw {
    /// ln of the token's probability under the law it was drawn from, in nats.
    #[must_use]
    pub fn logprob(&self) -> f64 {
        ln(self.weight) - ln(self.total)
    }
}

impl<'a> Law<'a> {
    /// The law of a row that nothing has been cut from.
    pub(crate) fn whole(level: Level, row: &'a [f32], max: f32, scale: Scale) -> Self {
        Self { level, row, max, scale, first: None, last: None }
    }

    /// The same without any truncation.
    pub(crate) fn uncut(self) -> Self {
        Self { first: None, last: None, ..self }
    }

    /// The weight of a token, zero where it was cut.
    #[must_use]
    pub fn weight_of(&self, id: usize) -> u64 {
        let logit = self.row[id];
        if self.bounds_at(id).contain(logit) { weight(logit - self.max, self.scale) } else { 0 }
    }

    /// Whether a token is inside the interval.
    pub(crate) fn contains(&self, candidate: Candidate) -> bool {
        let key = candidate.key();
        self.first.is_none_or(|first| first.key() <= key)
            && self.last.is_none_or(|last| key <= last.key())
    }

    /// Ties with the first survivor go to the ids from its own on, ties with the last to the ids
    /// up to its own.
    fn bounds_at(&self, id: usize) -> Bounds {
        let mut bounds = Bounds::ALL;
        if let Some(first) = self.first {
            let tie = id >= first.id as usize;
            bounds.high = if tie { first.logit } else { first.logit.next_down() };
        }
        if let Some(last) = self.last {
            let tie = id <= last.id as usize;
            bounds.low = if tie { last.logit } else { last.logit.next_up() };
        }
        bounds
    }

    /// `start..end` in up to three stretches, each of one [`Bounds`].
    pub(crate) fn stretches(
        &self,
        start: usize,
        end: usize,
    ) -> impl Iterator<Item = (usize, usize, Bounds)> {
        let first = self.first.map_or(start, |first| first.id as usize).clamp(start, end);
        let last = self.last.map_or(end, |last| last.id as usize + 1).clamp(start, end);
        let cuts = [start, first.min(last), first.max(last), end];
        (0..3)
            .map(move |i| (cuts[i], cuts[i + 1]))
            .filter(|(from, to)| from < to)
            .map(|(from, to)| (from, to, self.bounds_at(from)))
    }

    /// W, the sum of the weights; the sum of each block is left in `sums`.
    ///
    /// Does not count the tokens, which only the ledger needs.
    pub(crate) fn sum(&self, sums: &mut Vec<u64>) -> u64 {
        let blocks = self.row.len().div_ceil(BLOCK);
        sums.clear();
        sums.resize(blocks, 0);
        if self.first.is_none() && self.last.is_none() {
            whole_sum(self.level, self.row, self.max, self.scale, sums);
        } else {
            for (block, sum) in sums.iter_mut().enumerate() {
                *sum = self.block_sum(block);
            }
        }
        sums.iter().sum()
    }

    /// The weight of one block.
    fn block_sum(&self, block: usize) -> u64 {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.row.len());
        self.stretches(start, end)
            .map(|(from, to, bounds)| {
                span_sum(self.level, &self.row[from..to], bounds, self.max, self.scale)
            })
            .sum()
    }

    /// The first token whose cumulative weight, in the order of ids, exceeds `ticket`.
    /// `sums` are this law's own, from [`Law::sum`], and `ticket` is below their total.
    pub(crate) fn token_at(&self, sums: &[u64], ticket: u64) -> usize {
        self.token_not_in(sums, &[], ticket)
    }

    /// [`Law::token_at`] without the tokens whose bits are set in `drawn`; `sums` are without them,
    /// too.
    pub(crate) fn token_not_in(&self, sums: &[u64], drawn: &[u64], ticket: u64) -> usize {
        let mut rest = ticket;
        let mut block = 0;
        while rest >= sums[block] {
            rest -= sums[block];
            block += 1;
        }
        self.token_in(block, drawn, rest)
    }

    /// [`Law::token_at`] of a law whose blocks have not been summed: sums them as far as needed.
    pub(crate) fn find(&self, ticket: u64) -> usize {
        let mut rest = ticket;
        let mut block = 0;
        loop {
            let weight = self.block_sum(block);
            if rest < weight {
                return self.token_in(block, &[], rest);
            }
            rest -= weight;
            block += 1;
        }
    }

    fn token_in(&self, block: usize, drawn: &[u64], rest: u64) -> usize {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.row.len());
        let mut weights = [0u64; BLOCK];
        self.fill(start, end, &mut weights);
        for (word, weights) in drawn.iter().skip(start / 64).zip(weights.chunks_mut(64)) {
            for (bit, weight) in weights.iter_mut().enumerate() {
                if word >> bit & 1 == 1 {
                    *weight = 0;
                }
            }
        }
        start + first_above(weights, rest)
    }

    fn fill(&self, start: usize, end: usize, out: &mut [u64]) {
        for (from, to, bounds) in self.stretches(start, end) {
            let out = &mut out[from - start..to - start];
            span_fill(self.level, &self.row[from..to], bounds, self.max, self.scale, out);
        }
    }

    /// Every token's weight.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn weights(&self) -> Result<Vec<u64>> {
        let mut weights = memory::filled(0, self.row.len())?;
        self.fill(0, self.row.len(), &mut weights);
        Ok(weights)
    }

    /// The draw of a ticket; `token_of` maps the ticket to a token.
    pub(crate) fn draw(
        &self,
        total: u64,
        ticket: u64,
        token_of: impl Fn(u64) -> usize,
    ) -> Result<Draw> {
        if ticket >= total {
            return Err(Error::Ticket { ticket, total });
        }
        let token = token_of(ticket);
        Ok(Draw {
            token: token as u32,
            weight: weight(self.row[token] - self.max, self.scale),
            ticket,
            total,
        })
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
    fn whole_sum(row: &[f32], max: f32, scale: Scale, sums: &mut [u64]) = whole_sum_body;
}
kernel! {
    pub(crate) fn span_sum(span: &[f32], bounds: Bounds, max: f32, scale: Scale) -> u64 = span_sum_body;
}
kernel! {
    pub(crate) fn span_fill(
        span: &[f32], bounds: Bounds, max: f32, scale: Scale, out: &mut [u64],
    ) = span_fill_body;
}

#[inline(always)]
fn whole_sum_body<L: Lanes>(on: L, row: &[f32], max: f32, scale: Scale, sums: &mut [u64]) {
    let maxima = on.splat(max);
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    for (block, total) in blocks.iter().zip(&mut *sums) {
        let mut sum = Halves::zero(on);
        let (groups, _) = block.as_chunks::<{ BESIDE * LANES }>();
        for group in groups {
            let (chunks, _) = group.as_chunks::<LANES>();
            let differences = std::array::from_fn(|i| on.sub(on.load(&chunks[i]), maxima));
            for real in Real::side_by_side::<BESIDE>(on, differences, scale) {
                sum = sum.raw_add(on, real);
            }
        }
        *total = sum.without_biases(on, BLOCK / LANES).total(on);
    }
    if let Some(total) = sums.get_mut(blocks.len()) {
        let mut sum = Halves::zero(on);
        for chunk in rest.chunks(LANES) {
            let logits = on.load_part(chunk, f32::NEG_INFINITY);
            sum = sum.raw_add(on, Real::new(on, on.sub(logits, maxima), scale));
        }
        *total = sum.without_biases(on, rest.len().div_ceil(LANES)).total(on);
    }
}

/// The sum over at most [`BLOCK`] logits.
#[inline(always)]
fn span_sum_body<L: Lanes>(on: L, span: &[f32], bounds: Bounds, max: f32, scale: Scale) -> u64 {
    let mut sum = Halves::zero(on);
    let (chunks, rest) = span.as_chunks::<LANES>();
    for chunk in chunks {
        sum = sum.raw_add(on, Real::bounded(on, on.load(chunk), bounds, max, scale));
    }
    if !rest.is_empty() {
        let rest = on.load_part(rest, f32::NEG_INFINITY);
        sum = sum.raw_add(on, Real::bounded(on, rest, bounds, max, scale));
    }
    sum.without_biases(on, span.len().div_ceil(LANES)).total(on)
}

#[inline(always)]
fn span_fill_body<L: Lanes>(
    on: L,
    span: &[f32],
    bounds: Bounds,
    max: f32,
    scale: Scale,
    out: &mut [u64],
) {
    for (chunk, out) in span.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let logits = on.load_part(chunk, f32::NEG_INFINITY);
        let weights = Halves::new(on, Real::bounded(on, logits, bounds, max, scale)).values(on);
        out.copy_from_slice(&weights[..out.len()]);
    }
}
