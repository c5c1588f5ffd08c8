//! A strategy as a whole: the edits from a row's history, then the sampler.

pub mod sampler;

use crate::error::{Error, Result};
use crate::law::Draw;
use crate::law::ledger::Ledger;
use crate::pipeline::sampler::{Sampler, Scratch, Turn};
use crate::processors::{EditParams, Edits, History};
use crate::row::scan::survey;
use crate::truncation::params::Params;

/// Checked edits and parameters; made once, used for every row and step.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    edits: Edits,
    sampler: Sampler,
}

/// What a row brings besides its logits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// What decides the draw.
    pub turn: Turn,
    /// The sequence so far; only looked at where [`Edits::needs_history`].
    pub history: History<'a>,
}

impl Pipeline {
    /// Checks the parameters.
    ///
    /// # Errors
    /// A parameter out of its range.
    pub fn new(params: Params, edits: EditParams) -> Result<Self> {
        Ok(Self { edits: Edits::new(edits)?, sampler: Sampler::new(params)? })
    }

    /// The part before temperature and truncation.
    #[must_use]
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// The part from temperature on.
    #[must_use]
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// The same with these end-of-sequence tokens.
    ///
    /// # Errors
    /// As [`Edits::with_eos`].
    pub fn with_eos(&self, eos: &[u32]) -> Result<Self> {
        Ok(Self { edits: self.edits.with_eos(eos)?, sampler: self.sampler })
    }

    /// Draws a token.
    ///
    /// # Errors
    /// A row that is no row of logits, or a history with unknown tokens.
    pub fn sample(&self, row: &[f32], request: Request, scratch: &mut Scratch) -> Result<Draw> {
        self.on_edited(row, request.history, scratch, |row, scratch| {
            self.sampler.sample(row, request.turn, scratch)
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
        scratch: &mut Scratch,
    ) -> Result<(Draw, Ledger)> {
        self.on_edited(row, request.history, scratch, |edited, scratch| {
            let (law, total) = self.sampler.law(edited, request.turn, scratch)?;
            let ticket = request.turn.key.ticket(total);
            let draw = law.draw(total, ticket, |ticket| law.find(ticket))?;
            let max = survey(law.level, row, &mut scratch.tops)?;
            let ledger = Ledger::new(row, max, &law, &draw, alternatives, scratch);
            Ok((draw, ledger))
        })
    }

    /// Runs `work` on the row as the edits leave it: on the row itself where there are none.
    ///
    /// # Errors
    /// As [`Edits::apply`] and `work`; a row that the edits have emptied names them.
    pub fn on_edited<T>(
        &self,
        row: &[f32],
        history: History,
        scratch: &mut Scratch,
        work: impl FnOnce(&[f32], &mut Scratch) -> Result<T>,
    ) -> Result<T> {
        if self.edits.is_empty() {
            return work(row, scratch);
        }
        let mut edited = std::mem::take(&mut scratch.edited);
        edited.clear();
        edited.extend_from_slice(row);
        let result = self
            .edits
            .apply(&mut edited, history, &mut scratch.edits)
            .and_then(|()| work(&edited, scratch));
        scratch.edited = edited;
        result.map_err(|error| match error {
            Error::NothingAllowed { row: index } if row.iter().any(|&x| x > f32::NEG_INFINITY) => {
                self.edits.emptied(index)
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Pipeline, Request};
    use crate::pipeline::sampler::{Scratch, Turn};
    use crate::processors::{EditParams, History};
    use crate::rng::key::Key;
    use crate::truncation::params::Params;

    fn pipeline(params: Params, edits: EditParams) -> Pipeline {
        Pipeline::new(params, edits).unwrap()
    }

    #[test]
    fn the_ledger_by_hand() {
        // Probabilities 1/2, 1/4, 1/8, 1/8.
        let row = [0.5f32, 0.25, 0.125, 0.125].map(f32::ln);
        let half = std::f64::consts::LN_2;
        let edits =
            EditParams { logit_bias: vec![(vec![0], f32::NEG_INFINITY)], ..EditParams::default() };
        let only = pipeline(Params { top_k: Some(2), ..Params::default() }, edits);
        let mut scratch = Scratch::default();
        let (draw, ledger) =
            only.sample_with_ledger(&row, Request::default(), 3, &mut scratch).unwrap();
        assert_eq!(draw, only.sample(&row, Request::default(), &mut scratch).unwrap());
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
    fn rows_that_the_edits_empty_name_them() {
        let edits = EditParams { bad_words: vec![vec![0], vec![1]], ..EditParams::default() };
        let mut scratch = Scratch::default();
        let refused = pipeline(Params::default(), edits)
            .sample(&[1.0, 2.0], Request::default(), &mut scratch)
            .unwrap_err();
        assert!(refused.to_string().contains("bad_words"), "{refused}");
    }

    #[test]
    fn penalties_reach_the_draw() {
        let edits = EditParams { frequency_penalty: 50.0, ..EditParams::default() };
        let greedy = pipeline(Params { temperature: 0.0, ..Params::default() }, edits);
        let mut scratch = Scratch::default();
        let mut tokens = vec![];
        for position in 0..4 {
            let turn = Turn::from(Key { position, ..Key::default() });
            let history = History { tokens: &tokens, prompt: 0 };
            let row = [3.0, 4.0, 2.0, 1.0];
            let draw = greedy.sample(&row, Request { turn, history }, &mut scratch).unwrap();
            tokens.push(draw.token);
        }
        assert_eq!(tokens, [1, 0, 2, 3]);
    }
}
