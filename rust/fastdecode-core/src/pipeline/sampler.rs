//! The pipeline from a row of logits to a token.

use crate::error::{Error, Result};
use crate::law::{BLOCK, Draw, Law};
use crate::rng::key::Key;
use crate::truncation::survivors::Survivors;
use crate::truncation::{DrawContext, Params};
use crate::workspace::Workspace;
use fastdecode_simd::{Level, memory};

/// Checked parameters; made once, used for every row and step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    params: Params,
    level: Level,
}

impl Sampler {
    /// Checks the parameters.
    ///
    /// # Errors
    /// A parameter out of its range.
    pub fn new(params: Params) -> Result<Self> {
        params.check()?;
        Ok(Self { params, level: Level::detect() })
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

    /// Whether the law depends on the key: XTC tosses a coin.
    #[must_use]
    pub fn tosses(&self) -> bool {
        self.params.tosses()
    }

    /// Draws the token that `context` decides.
    ///
    /// # Errors
    /// A row that is not valid logits: it has NaN or +inf, is empty, or has no finite entry.
    pub fn sample(
        &self,
        row: &[f32],
        context: DrawContext,
        workspace: &mut Workspace,
    ) -> Result<Draw> {
        self.sample_with(row, context, |total| context.key.ticket(total), workspace)
    }

    /// [`Sampler::sample`], with the law that it was drawn from before any truncation, and that
    /// law's total where the draw has computed it. The workspace keeps the row's survey.
    pub(crate) fn sample_of<'a>(
        &self,
        row: &'a [f32],
        context: DrawContext,
        workspace: &mut Workspace,
    ) -> Result<(Draw, Law<'a>, Option<u64>)> {
        let survivors = self.survivors(row, context, workspace)?;
        let (law, whole) = survivors.uncut();
        let draw = survivors.draw(|total| context.key.ticket(total))?;
        Ok((draw, law, whole.then_some(draw.total)))
    }

    /// [`Sampler::sample`] with a uniform integer from the caller: `ticket` is called once, with
    /// the law's total weight W, and gives an integer in `[0, W)`.
    ///
    /// # Errors
    /// As [`Sampler::sample`], and [`Error::Ticket`](crate::Error::Ticket).
    pub fn sample_with(
        &self,
        row: &[f32],
        context: DrawContext,
        ticket: impl FnOnce(u64) -> u64,
        workspace: &mut Workspace,
    ) -> Result<Draw> {
        self.survivors(row, context, workspace)?.draw(ticket)
    }

    /// The draws of these tickets, each an integer below the law's total weight, for inspecting the
    /// map from tickets to tokens.
    ///
    /// # Errors
    /// As [`Sampler::sample`], and [`Error::Ticket`](crate::Error::Ticket).
    pub fn redeem(
        &self,
        row: &[f32],
        context: DrawContext,
        tickets: &[u64],
        workspace: &mut Workspace,
    ) -> Result<Vec<Draw>> {
        let (law, total) = self.law(row, context, workspace)?;
        law.sum(&mut workspace.survivors.sums);
        let token_of = |ticket| law.token_at(&workspace.survivors.sums, ticket);
        tickets.iter().map(|&ticket| law.draw(total, ticket, token_of)).collect()
    }

    /// Draws `count` tokens for `context` and the samples after its own, as that many calls of
    /// [`Sampler::sample`] would.
    ///
    /// # Errors
    /// As [`Sampler::sample`], and [`Error::Memory`] where the system refuses the memory for them.
    pub fn sample_many(
        &self,
        row: &[f32],
        context: DrawContext,
        count: usize,
        workspace: &mut Workspace,
    ) -> Result<Vec<Draw>> {
        let of = |i: usize| {
            let key = Key { sample: context.key.sample.wrapping_add(i as u32), ..context.key };
            DrawContext { key, ..context }
        };
        let mut draws: Vec<Draw> = memory::with_room(count)?;
        if self.tosses() {
            for i in 0..count {
                draws.push(self.sample(row, of(i), workspace)?);
            }
            return Ok(draws);
        }
        let (law, total) = self.law(row, context, workspace)?;
        law.sum(&mut workspace.survivors.sums);
        let token_of = |ticket| law.token_at(&workspace.survivors.sums, ticket);
        for i in 0..count {
            draws.push(law.draw(total, of(i).key.ticket(total), token_of)?);
        }
        Ok(draws)
    }

    /// Draws `count` different tokens, one after the other, each from the law without those before
    /// it: the i-th with the key of sample i. The distribution is that of Gumbel-top-k (Kool et
    /// al., "Stochastic beams and where to find them", 2019), here in exact integers.
    ///
    /// # Errors
    /// As [`Sampler::sample`], and [`Error::TooFewTokens`].
    pub fn sample_distinct(
        &self,
        row: &[f32],
        context: DrawContext,
        count: usize,
        workspace: &mut Workspace,
    ) -> Result<Vec<u32>> {
        let (law, mut total) = self.law(row, context, workspace)?;
        law.sum(&mut workspace.survivors.sums);
        let mut drawn = memory::filled(0u64, row.len().div_ceil(64))?;
        let mut tokens = memory::with_room(count.min(row.len()))?;
        for i in 0..count {
            if total == 0 {
                return Err(Error::TooFewTokens { wanted: count, tokens: i as u64 });
            }
            let key = Key { sample: context.key.sample.wrapping_add(i as u32), ..context.key };
            let token_of = |ticket| law.token_not_in(&workspace.survivors.sums, &drawn, ticket);
            let draw = law.draw(total, key.ticket(total), token_of)?;
            let token = draw.token as usize;
            drawn[token / 64] |= 1 << (token % 64);
            workspace.survivors.sums[token / BLOCK] -= draw.weight;
            total -= draw.weight;
            tokens.push(draw.token);
        }
        Ok(tokens)
    }

    /// The law that [`Sampler::sample`] draws from, with W, the sum of its weights.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn law<'a>(
        &self,
        row: &'a [f32],
        context: DrawContext,
        workspace: &mut Workspace,
    ) -> Result<(Law<'a>, u64)> {
        Ok(self.survivors(row, context, workspace)?.into_law())
    }

    /// The integer weight of every token: the whole law.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn weights(
        &self,
        row: &[f32],
        context: DrawContext,
        workspace: &mut Workspace,
    ) -> Result<Vec<u64>> {
        self.law(row, context, workspace)?.0.weights()
    }

    /// The probability of every token, `w / W`: exactly what is drawn from.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(
        &self,
        row: &[f32],
        context: DrawContext,
        workspace: &mut Workspace,
    ) -> Result<Vec<f64>> {
        let (law, total) = self.law(row, context, workspace)?;
        let total = total as f64;
        Ok(memory::collect(law.weights()?.into_iter().map(|weight| weight as f64 / total))?)
    }

    /// Mirostat's bound after a draw; None where mirostat is off.
    #[must_use]
    pub fn next_mu(&self, context: DrawContext, draw: &Draw) -> Option<f64> {
        let mirostat = self.params.mirostat?;
        let surprisal = -draw.logprob() / std::f64::consts::LN_2;
        Some(mirostat.next_mu(context.mu, surprisal))
    }

    /// What is left of the row, after temperature and truncations.
    fn survivors<'a, 's>(
        &self,
        row: &'a [f32],
        context: DrawContext,
        workspace: &'s mut Workspace,
    ) -> Result<Survivors<'a, 's>> {
        self.params.survivors(self.level, row, &context, &mut workspace.survivors)
    }
}

#[cfg(test)]
mod tests;
