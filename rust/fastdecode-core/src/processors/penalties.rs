//! Penalties on the tokens that occur: repetition, frequency, presence.

use super::{Counts, History, change};
use crate::error::{Error, Result};

/// In single precision, as the logits are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Penalties {
    repetition: f32,
    frequency: f32,
    presence: f32,
}

impl Penalties {
    pub(super) fn new(repetition: f64, frequency: f64, presence: f64) -> Result<Self> {
        let single = repetition as f32;
        if !(single.is_finite() && single > 0.0) {
            return Err(Error::RepetitionPenalty(repetition));
        }
        for (name, value) in [("frequency_penalty", frequency), ("presence_penalty", presence)] {
            if !(value as f32).is_finite() {
                return Err(Error::Penalty { name, value });
            }
        }
        Ok(Self { repetition: single, frequency: frequency as f32, presence: presence as f32 })
    }

    pub(super) fn is_off(self) -> bool {
        self.repetition == 1.0 && self.frequency == 0.0 && self.presence == 0.0
    }

    pub(super) fn apply(self, row: &mut [f32], history: History<'_>, counts: &mut Counts) {
        let (known, rest) = history.counted();
        counts.clear();
        counts.extend(rest);
        // Each token once, so the order of the counts cannot be seen.
        for (token, count) in known.into_iter().flat_map(Counts::iter) {
            if counts.of(token) == 0 {
                change(row, token, |logit| self.penalised(logit, count as f32));
            }
        }
        for (token, count) in counts.iter() {
            let count = count + known.map_or(0, |known| known.of(token));
            change(row, token, |logit| self.penalised(logit, count as f32));
        }
    }

    fn penalised(self, logit: f32, count: f32) -> f32 {
        let repetition = self.repetition;
        let scaled = if logit < 0.0 { logit * repetition } else { logit / repetition };
        // Kept finite between the steps, so that two infinities cannot meet.
        let counted = scaled.clamp(f32::MIN, f32::MAX) - count * self.frequency;
        counted.clamp(f32::MIN, f32::MAX) - self.presence
    }
}
