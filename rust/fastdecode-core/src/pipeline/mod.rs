//! A strategy as a whole: the processors from a row's history, then the sampler.

pub mod ledger;
mod params;
pub mod sampler;

pub use params::{PipelineParams, Stage, parameters};

use crate::error::{Error, Result};
use crate::law::Draw;
use crate::processors::{History, ProcessorParams, ProcessorWorkspace, Processors};
use crate::row::scan::survey;
use crate::truncation::DrawContext;
use crate::truncation::Params;
use crate::workspace::Workspace;
use fastdecode_simd::memory;
use ledger::Ledger;
use sampler::Sampler;

/// Checked processors and parameters; made once, used for every row and step.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    processors: Processors,
    sampler: Sampler,
}

/// The inputs of a row besides its logits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// What decides the draw.
    pub context: DrawContext,
    /// The sequence so far; only read where [`Processors::needs_history`].
    pub history: History<'a>,
}

/// A draw, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub draw: Draw,
    /// Mirostat's bound for the next draw; None where mirostat is off.
    pub mu: Option<f64>,
    /// The numbers that led to the token, where they were to be noted.
    pub ledger: Option<Ledger>,
}

impl Pipeline {
    /// Checks the parameters.
    ///
    /// # Errors
    /// A parameter out of its range.
    pub fn new(params: Params, processors: ProcessorParams) -> Result<Self> {
        Ok(Self { processors: Processors::new(processors)?, sampler: Sampler::new(params)? })
    }

    /// The part before temperature and truncation.
    #[must_use]
    pub fn processors(&self) -> &Processors {
        &self.processors
    }

    /// The part from temperature on.
    #[must_use]
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// The same with these end-of-sequence tokens.
    ///
    /// # Errors
    /// As [`Processors::with_eos`].
    pub fn with_eos(&self, eos: &[u32]) -> Result<Self> {
        Ok(Self { processors: self.processors.with_eos(eos)?, sampler: self.sampler })
    }

    /// Checks that a caller who has a history and a key, or lacks one, can use this pipeline.
    ///
    /// # Errors
    /// [`Error::NeedsHistory`], [`Error::NeedsKey`].
    pub fn require(&self, history: bool, key: bool) -> Result<()> {
        if !history && self.processors.needs_history() {
            return Err(Error::NeedsHistory);
        }
        if !key && self.sampler.tosses() {
            return Err(Error::NeedsKey);
        }
        Ok(())
    }

    /// Draws a token. `noting` asks for a ledger with that many alternatives.
    ///
    /// # Errors
    /// As [`Pipeline::sample`].
    pub fn sample_noting(
        &self,
        row: &[f32],
        request: Request,
        noting: Option<usize>,
        workspace: &mut Workspace,
    ) -> Result<Sampled> {
        let (draw, ledger) = match noting {
            None => (self.sample(row, request, workspace)?, None),
            Some(alternatives) => {
                let (draw, ledger) =
                    self.sample_with_ledger(row, request, alternatives, workspace)?;
                (draw, Some(ledger))
            }
        };
        Ok(Sampled { mu: self.sampler.next_mu(request.context, &draw), draw, ledger })
    }

    /// [`Sampler::distribution`] of the processed row.
    ///
    /// # Errors
    /// As [`Pipeline::sample`].
    pub fn distribution(
        &self,
        row: &[f32],
        request: Request,
        workspace: &mut Workspace,
    ) -> Result<Vec<f64>> {
        self.on_processed(row, request.history, workspace, |row, workspace| {
            self.sampler.distribution(row, request.context, workspace)
        })
    }

    /// [`Sampler::weights`] of the processed row.
    ///
    /// # Errors
    /// As [`Pipeline::sample`].
    pub fn weights(
        &self,
        row: &[f32],
        request: Request,
        workspace: &mut Workspace,
    ) -> Result<Vec<u64>> {
        self.on_processed(row, request.history, workspace, |row, workspace| {
            self.sampler.weights(row, request.context, workspace)
        })
    }

    /// The tokens of [`Sampler::sample_many`] from the processed row.
    ///
    /// # Errors
    /// As [`Sampler::sample_many`] and [`Pipeline::sample`].
    pub fn sample_many(
        &self,
        row: &[f32],
        request: Request,
        count: usize,
        workspace: &mut Workspace,
    ) -> Result<Vec<u32>> {
        self.on_processed(row, request.history, workspace, |row, workspace| {
            let draws = self.sampler.sample_many(row, request.context, count, workspace)?;
            Ok(memory::collect(draws.iter().map(|draw| draw.token))?)
        })
    }

    /// [`Sampler::sample_distinct`] from the processed row.
    ///
    /// # Errors
    /// As [`Sampler::sample_distinct`] and [`Pipeline::sample`].
    pub fn sample_distinct(
        &self,
        row: &[f32],
        request: Request,
        count: usize,
        workspace: &mut Workspace,
    ) -> Result<Vec<u32>> {
        self.on_processed(row, request.history, workspace, |row, workspace| {
            self.sampler.sample_distinct(row, request.context, count, workspace)
        })
    }

    /// Draws a token.
    ///
    /// # Errors
    /// A row that is not valid logits, or a history with unknown tokens.
    pub fn sample(&self, row: &[f32], request: Request, workspace: &mut Workspace) -> Result<Draw> {
        self.on_processed(row, request.history, workspace, |row, workspace| {
            self.sampler.sample(row, request.context, workspace)
        })
    }

    /// Draws a token, with the numbers that led to it and the model's likeliest `alternatives`.
    ///
    /// # Errors
    /// As [`Pipeline::sample`].
    pub fn sample_with_ledger(
        &self,
        row: &[f32],
        request: Request,
        alternatives: usize,
        workspace: &mut Workspace,
    ) -> Result<(Draw, Ledger)> {
        self.on_processed(row, request.history, workspace, |processed, workspace| {
            let (law, total) = self.sampler.law(processed, request.context, workspace)?;
            let ticket = request.context.key.ticket(total);
            let draw = law.draw(total, ticket, |ticket| law.find(ticket))?;
            let max = survey(law.level, row, &mut workspace.survivors.tops)?;
            let ledger =
                Ledger::new(row, max, &law, &draw, alternatives, &mut workspace.survivors)?;
            Ok((draw, ledger))
        })
    }

    /// Runs `work` on the row as the processors leave it: on the row itself where there are none.
    ///
    /// # Errors
    /// As [`Processors::apply`] and `work`; where the processors leave a row no token, the error
    /// names them.
    pub fn on_processed<T>(
        &self,
        row: &[f32],
        history: History,
        workspace: &mut Workspace,
        work: impl FnOnce(&[f32], &mut Workspace) -> Result<T>,
    ) -> Result<T> {
        if self.processors.is_empty() {
            return work(row, workspace);
        }
        let change = |row: &mut [f32], space: &mut _| self.processors.apply(row, history, space);
        self.on_changed(row, workspace, change, work)
    }

    /// Runs `work` on the row with all but the allowed tokens banned: on the row itself where all
    /// are allowed.
    pub(crate) fn on_restricted<T>(
        &self,
        row: &[f32],
        workspace: &mut Workspace,
        work: impl FnOnce(&[f32], &mut Workspace) -> Result<T>,
    ) -> Result<T> {
        self.processors.check(row.len())?;
        if !self.processors.is_restricting() {
            return work(row, workspace);
        }
        let change = |row: &mut [f32], space: &mut _| {
            self.processors.restrict(row, space);
            Ok(())
        };
        self.on_changed(row, workspace, change, work)
    }

    /// Runs `work` on a copy of the row that `change` has changed.
    fn on_changed<T>(
        &self,
        row: &[f32],
        workspace: &mut Workspace,
        change: impl FnOnce(&mut [f32], &mut ProcessorWorkspace) -> Result<()>,
        work: impl FnOnce(&[f32], &mut Workspace) -> Result<T>,
    ) -> Result<T> {
        let mut processed = std::mem::take(&mut workspace.processed);
        processed.clear();
        processed.extend_from_slice(row);
        let result = change(&mut processed, &mut workspace.processors)
            .and_then(|()| work(&processed, workspace));
        workspace.processed = processed;
        result.map_err(|error| match error {
            Error::NothingAllowed { row: index } if row.iter().any(|&x| x > f32::NEG_INFINITY) => {
                self.processors.emptied(index)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Pipeline, Request};
    use crate::error::Error;
    use crate::processors::{History, ProcessorParams};
    use crate::rng::key::Key;
    use crate::truncation::DrawContext;
    use crate::truncation::{Mirostat, Params, Xtc};
    use crate::workspace::Workspace;

    fn pipeline(params: Params, processors: ProcessorParams) -> Pipeline {
        Pipeline::new(params, processors).unwrap()
    }

    #[test]
    fn the_ledger_by_hand() {
        // Probabilities 1/2, 1/4, 1/8, 1/8.
        let row = [0.5f32, 0.25, 0.125, 0.125].map(f32::ln);
        let half = std::f64::consts::LN_2;
        let processors = ProcessorParams {
            logit_bias: vec![(vec![0], f32::NEG_INFINITY)],
            ..ProcessorParams::default()
        };
        let only = pipeline(Params { top_k: Some(2), ..Params::default() }, processors);
        let mut workspace = Workspace::default();
        let (draw, ledger) =
            only.sample_with_ledger(&row, Request::default(), 3, &mut workspace).unwrap();
        assert_eq!(draw, only.sample(&row, Request::default(), &mut workspace).unwrap());
        let near = |a: f64, b: f64| assert!((a - b).abs() < 2e-6, "{a} for {b}");
        near(ledger.raw_logprob, if draw.token == 1 { -2.0 } else { -3.0 } * half);
        assert_eq!(ledger.rank, draw.token + 1);
        near(draw.logprob(), (if draw.token == 1 { 2.0f64 } else { 1.0 } / 3.0).ln());
        near(ledger.kept_logprob, 0.75f64.ln());
        assert_eq!(ledger.kept, 2);
        near(ledger.entropy_before, 1.75 * half);
        near(ledger.entropy_after, 3f64.ln() - 2.0 / 3.0 * half);
        assert_eq!(ledger.alternatives.iter().map(|x| x.0).collect::<Vec<_>>(), [0, 1, 2]);
        near(ledger.alternatives[1].1, -2.0 * half);
    }

    #[test]
    fn rows_that_the_processors_empty_name_them() {
        let processors =
            ProcessorParams { bad_words: vec![vec![0], vec![1]], ..ProcessorParams::default() };
        let mut workspace = Workspace::default();
        let refused = pipeline(Params::default(), processors)
            .sample(&[1.0, 2.0], Request::default(), &mut workspace)
            .unwrap_err();
        assert!(refused.to_string().contains("bad_words"), "{refused}");
    }

    #[test]
    fn a_history_or_a_key_is_required_only_where_it_matters() {
        let penalty = ProcessorParams { presence_penalty: 1.0, ..ProcessorParams::default() };
        let xtc =
            Params { xtc: Some(Xtc { probability: 0.5, threshold: 0.1 }), ..Params::default() };
        let plain = pipeline(Params::default(), ProcessorParams::default());
        assert_eq!(plain.require(false, false), Ok(()));
        let penalised = pipeline(Params::default(), penalty);
        assert_eq!(penalised.require(false, true), Err(Error::NeedsHistory));
        assert_eq!(penalised.require(true, false), Ok(()));
        let tossing = pipeline(xtc, ProcessorParams::default());
        assert_eq!(tossing.require(true, false), Err(Error::NeedsKey));
        assert_eq!(tossing.require(false, true), Ok(()));
    }

    #[test]
    fn mirostat_begins_anew_where_its_state_is_not_a_number() {
        let mirostat =
            Params { mirostat: Some(Mirostat { tau: 1.0, eta: 0.5 }), ..Params::default() };
        let adaptive = pipeline(mirostat, ProcessorParams::default());
        let mut workspace = Workspace::default();
        let mut sampled = |mu| {
            let context = DrawContext { key: Key::default(), mu };
            let request = Request { context, ..Request::default() };
            adaptive.sample_noting(&[3.0, 2.0, 1.0, 0.0], request, None, &mut workspace).unwrap()
        };
        let first = sampled(None);
        assert_eq!(sampled(Some(f64::NAN)), first);
        assert!(first.mu.is_some_and(|mu| mu != 2.0) && first.ledger.is_none());
    }

    #[test]
    fn penalties_reach_the_draw() {
        let processors = ProcessorParams { frequency_penalty: 50.0, ..ProcessorParams::default() };
        let greedy = pipeline(Params { temperature: 0.0, ..Params::default() }, processors);
        let mut workspace = Workspace::default();
        let mut tokens = vec![];
        for position in 0..4 {
            let context = DrawContext::from(Key { position, ..Key::default() });
            let history = History::new(&tokens, 0);
            let row = [3.0, 4.0, 2.0, 1.0];
            let draw = greedy.sample(&row, Request { context, history }, &mut workspace).unwrap();
            tokens.push(draw.token);
        }
        assert_eq!(tokens, [1, 0, 2, 3]);
    }
}
