//! The choice at one position: the draw, and what is noted of it.

use crate::error::Result;
use crate::law::weight::{Scale, WEIGHT_BITS};
use crate::law::{Draw, Law};
use crate::math::ln::ln;
use crate::pipeline::Pipeline;
use crate::pipeline::ledger::Ledger;
use crate::processors::History;
use crate::row::scan::survey;
use crate::row::select;
use crate::truncation::DrawContext;
use crate::truncation::survivors::SurvivorWorkspace;
use crate::workspace::Workspace;
use fastdecode_simd::memory;

/// What is recorded of each token besides the draw. Each of them costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noting {
    /// The token's log-probability under the model.
    pub raw: bool,
    /// Its log-probability after processors and temperature, before any truncation.
    pub processed: bool,
    /// This many of the model's likeliest tokens.
    pub alternatives: usize,
    /// The ledger, with this many of the model's likeliest tokens.
    pub ledger: Option<usize>,
}

/// What was recorded of a token besides the draw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Noted {
    /// ln of the token's probability under the model, in nats.
    pub raw: Option<f64>,
    /// ln of its probability after processors and temperature, before any truncation, in nats.
    pub processed: Option<f64>,
    /// ln of the share of the mass that the truncations kept, in nats; with `processed`.
    pub kept: Option<f64>,
    /// The model's likeliest tokens and ln of their probabilities, likeliest first.
    pub alternatives: Vec<(u32, f64)>,
    /// The numbers that led to the token.
    pub ledger: Option<Ledger>,
    /// With the ledger: its alternatives, followed by the drawn token where it is not one of them.
    pub candidates: Vec<Candidate>,
}

/// One of the likeliest tokens, with its share of the law that was drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// ln of its probability under the model, in nats.
    pub logprob: f64,
    /// Its weight in the law that was drawn from.
    pub weight: u64,
}

/// What was drawn at one position of a sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// The token, and the numbers that led to it.
    pub draw: Draw,
    /// Mirostat's bound after it; None without mirostat.
    pub mu: Option<f64>,
    /// What else was recorded.
    pub noted: Noted,
}

/// Chooses at one position.
pub(super) struct Chooser<'a> {
    pub pipeline: &'a Pipeline,
    pub context: DrawContext,
    pub noting: Noting,
}

impl Chooser<'_> {
    /// From a row as the model gave it.
    pub fn on_raw(
        &self,
        raw: &[f32],
        history: History,
        workspace: &mut Workspace,
    ) -> Result<Choice> {
        self.pipeline.on_processed(raw, history, workspace, |row, workspace| {
            self.choose(row, Some(raw), workspace)
        })
    }

    /// From a row that all processors but the restriction to allowed tokens have been applied to.
    pub fn on_processed(
        &self,
        row: &[f32],
        raw: Option<&[f32]>,
        workspace: &mut Workspace,
    ) -> Result<Choice> {
        self.pipeline
            .on_restricted(row, workspace, |row, workspace| self.choose(row, raw, workspace))
    }

    /// Draws from `row`, which is `raw` itself where nothing was changed.
    fn choose(
        &self,
        row: &[f32],
        raw: Option<&[f32]>,
        workspace: &mut Workspace,
    ) -> Result<Choice> {
        let Self { context, noting, .. } = *self;
        let sampler = self.pipeline.sampler();
        if let Some(alternatives) = noting.ledger {
            return self.choose_with_ledger(row, raw.unwrap_or(row), alternatives, workspace);
        }
        let (draw, whole, total) = sampler.sample_of(row, context, workspace)?;
        let mut whole = Total { law: whole, total };
        let mut noted = Noted::default();
        if noting.processed {
            note_processed(&mut noted, &draw, &mut whole, workspace);
        }
        if noting.raw || noting.alternatives > 0 {
            let raw = raw.unwrap_or(row);
            let same = std::ptr::eq(raw, row);
            if !same {
                let max = survey(whole.law.level, raw, &mut workspace.survivors.tops)?;
                let law = Law::whole(whole.law.level, raw, max, Scale::new(1.0));
                whole = Total { law, total: None };
            } else if whole.law.scale != Scale::new(1.0) {
                whole.law.scale = Scale::new(1.0);
                whole.total = None;
            }
            note_raw(&mut noted, noting, &draw, &mut whole, workspace)?;
        }
        Ok(Choice { draw, mu: sampler.next_mu(context, &draw), noted })
    }

    fn choose_with_ledger(
        &self,
        row: &[f32],
        raw: &[f32],
        alternatives: usize,
        workspace: &mut Workspace,
    ) -> Result<Choice> {
        let Self { context, noting, .. } = *self;
        let sampler = self.pipeline.sampler();
        let (law, total) = sampler.law(row, context, workspace)?;
        let draw = law.draw(total, context.key.ticket(total), |ticket| law.find(ticket))?;
        let mut noted = Noted::default();
        if noting.processed {
            let mut whole = Total { law: law.uncut(), total: None };
            note_processed(&mut noted, &draw, &mut whole, workspace);
        }
        let max = survey(law.level, raw, &mut workspace.survivors.tops)?;
        let ledger = Ledger::new(raw, max, &law, &draw, alternatives, &mut workspace.survivors)?;
        if noting.raw || noting.alternatives > 0 {
            let mut whole =
                Total { law: Law::whole(law.level, raw, max, Scale::new(1.0)), total: None };
            note_raw(&mut noted, noting, &draw, &mut whole, workspace)?;
        }
        let others = ledger.alternatives.iter().filter(|(token, _)| *token != draw.token);
        let missing = others.count() == ledger.alternatives.len();
        let own = missing.then_some((draw.token, ledger.raw_logprob));
        let some = ledger.alternatives.iter().copied().chain(own);
        noted.candidates = memory::with_room(ledger.alternatives.len() + 1)?;
        noted.candidates.extend(some.map(|(token, logprob)| Candidate {
            token,
            logprob,
            weight: law.weight_of(token as usize),
        }));
        noted.ledger = Some(ledger);
        Ok(Choice { draw, mu: sampler.next_mu(context, &draw), noted })
    }
}

/// A law that nothing was cut from, and its total once it is known.
struct Total<'a> {
    law: Law<'a>,
    total: Option<u64>,
}

impl Total<'_> {
    fn get(&mut self, workspace: &mut Workspace) -> u64 {
        *self.total.get_or_insert_with(|| self.law.sum(&mut workspace.survivors.sums))
    }
}

/// By the law before any truncation, which `draw` is from.
fn note_processed(noted: &mut Noted, draw: &Draw, whole: &mut Total, workspace: &mut Workspace) {
    let total = ln(whole.get(workspace));
    noted.processed = Some(ln(draw.weight) - total);
    noted.kept = Some((ln(draw.total) - total).min(0.0));
}

/// By the model's law, whose row has been surveyed into the workspace.
fn note_raw(
    noted: &mut Noted,
    noting: Noting,
    draw: &Draw,
    model: &mut Total,
    workspace: &mut Workspace,
) -> Result<()> {
    let total = model.get(workspace);
    let Law { level, row, max, .. } = model.law;
    let normaliser = f64::from(max) + (ln(total) - ln(1 << WEIGHT_BITS));
    let logprob = |logit: f32| f64::from(logit) - normaliser;
    noted.raw = noting.raw.then(|| logprob(row[draw.token as usize]));
    if noting.alternatives > 0 {
        let SurvivorWorkspace { tops, folded, keys, candidates, .. } = &mut workspace.survivors;
        let wanted = noting.alternatives.min(row.len());
        select::top_k(level, row, tops, wanted, folded, keys, candidates);
        candidates.sort_unstable_by(crate::row::order::Candidate::order);
        noted.alternatives = memory::collect(candidates.iter().map(|x| (x.id, logprob(x.logit))))?;
    }
    Ok(())
}
