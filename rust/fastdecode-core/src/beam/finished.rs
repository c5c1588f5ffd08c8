//! The finished hypotheses of a group, the best first.

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// An end-of-sequence token.
    Eos,
    /// The prompt's limit on new tokens.
    Limit,
    /// The caller's own rule, such as a stop string.
    Stop,
}

/// A finished sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hypothesis {
    /// Its last node.
    pub node: u32,
    /// Its score, by which it is ranked.
    pub score: f64,
    /// The sum that the score was computed from, in nats.
    pub sum: f64,
    /// Why it ended.
    pub ending: Ending,
}

/// At most `room` hypotheses, best first; on a tie the one that came first stays first.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub best: Vec<Hypothesis>,
    room: usize,
}

impl Finished {
    pub fn new(room: usize) -> Self {
        Self { best: Vec::new(), room }
    }

    pub fn is_full(&self) -> bool {
        self.best.len() == self.room
    }

    /// The score to beat; -inf while there is room.
    pub fn worst(&self) -> f64 {
        match self.best.last() {
            Some(last) if self.is_full() => last.score,
            _ => f64::NEG_INFINITY,
        }
    }

    /// Adds a hypothesis if it is good enough.
    pub fn offer(&mut self, hypothesis: Hypothesis) {
        let place = self.best.partition_point(|held| held.score >= hypothesis.score);
        self.best.insert(place, hypothesis);
        self.best.truncate(self.room);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Finished, Hypothesis};

    #[test]
    fn the_best_stay_and_ties_go_to_the_first() {
        let mut finished = Finished::new(2);
        assert_eq!(finished.worst(), f64::NEG_INFINITY);
        for (node, score) in [(1, -2.0), (2, -1.0), (3, -1.0), (4, -1.0), (5, -3.0)] {
            finished.offer(Hypothesis { node, score, sum: score, ending: Ending::Eos });
        }
        assert_eq!(finished.best.iter().map(|h| h.node).collect::<Vec<_>>(), [2, 3]);
        assert!(finished.is_full());
        assert_eq!(finished.worst(), -1.0);
    }
}
