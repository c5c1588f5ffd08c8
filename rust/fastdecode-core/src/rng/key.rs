//! What a draw is keyed by, and the uniform integers that follow from it: the mapping `rng="v1"`.
//!
//! Philox's key is the seed, low word first. Its counter is
//! `[purpose << 24 | attempt, position, sample, stream]`, one 32-bit word each, so that no two
//! (stream, sample, position) ever share a block, and a transform that needs randomness of its own
//! takes another purpose. The golden vectors below freeze it: changing them is a breaking change.

use crate::rng::philox::philox4x32;
use crate::rng::reduction::multiply_shift;

/// The name of the frozen mapping from key to uniform integers.
pub const RNG_VERSION: &str = "v1";

/// The spacing of [`Key::uniform`]'s values.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

/// What the random bits of a block are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// The uniform integer that picks a token.
    Ticket = 0,
    /// Whether XTC acts.
    Xtc = 1,
    /// The Gumbel noise of a beam's children, in beam sampling and stochastic beam search.
    Gumbel = 2,
}

/// Decides, with a law, one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Key {
    /// The run.
    pub seed: u64,
    /// The prompt within the run.
    pub stream: u32,
    /// The sample of that prompt.
    pub sample: u32,
    /// The number of tokens before the one drawn, in its own sequence.
    pub position: u32,
}

impl Key {
    /// 64 random bits: words 0 and 1 of the block, low word first.
    #[must_use]
    pub fn bits(&self, purpose: Purpose, attempt: u32) -> u64 {
        debug_assert!(attempt < 1 << 24);
        let block = philox4x32(
            [tag(purpose as u8, attempt), self.position, self.sample, self.stream],
            [self.seed as u32, (self.seed >> 32) as u32],
        );
        u64::from(block[0]) | u64::from(block[1]) << 32
    }

    /// The raffle ticket as a fraction in [0, 1): the first attempt's top 53 bits.
    #[must_use]
    pub fn uniform(&self) -> f64 {
        self.toss(Purpose::Ticket)
    }

    /// A fraction in [0, 1) for another purpose.
    #[must_use]
    pub fn toss(&self, purpose: Purpose) -> f64 {
        (self.bits(purpose, 0) >> 11) as f64 * UNIT
    }

    /// A uniform number strictly between 0 and 1, from its own block.
    #[must_use]
    pub fn open_uniform(&self, purpose: Purpose) -> f64 {
        ((self.bits(purpose, 0) >> 12) as f64 + 0.5) * (2.0 * UNIT)
    }

    /// A uniform integer in `[0, total)`, without bias (Lemire's multiply-shift with rejection,
    /// proved in `reduction.rs`). It grows with [`Key::uniform`] unless the first attempt is
    /// rejected, which happens at most with odds `total / 2^64`.
    ///
    /// # Panics
    /// If `total` is zero.
    #[must_use]
    pub fn ticket(&self, total: u64) -> u64 {
        assert!(total > 0, "a law has at least one ticket");
        multiply_shift(total, |attempt| self.bits(Purpose::Ticket, attempt))
    }
}

/// The first word of the counter.
fn tag(purpose: u8, attempt: u32) -> u32 {
    u32::from(purpose) << 24 | attempt
}

#[cfg(test)]
mod tests {
    use super::{Key, Purpose, tag};

    fn key(seed: u64, stream: u32, sample: u32, position: u32) -> Key {
        Key { seed, stream, sample, position }
    }

    #[test]
    fn golden_bits_of_v1() {
        let cases = [
            (key(0, 0, 0, 0), 0, 0xe169c58d6627e8d5),
            (key(u64::MAX, u32::MAX, u32::MAX, u32::MAX), 0, GOLDEN[0]),
            (key(7, 0, 0, 2), 0, GOLDEN[1]),
            (key(7, 1, 3, 2), 0, GOLDEN[2]),
            (key(7, 1, 3, 2), 1, GOLDEN[3]),
            (key(1 << 32, 0, 0, 0), 0, GOLDEN[4]),
        ];
        for (key, attempt, expected) in cases {
            let bits = key.bits(Purpose::Ticket, attempt);
            assert_eq!(bits, expected, "{key:?} attempt {attempt}: {bits:#018x}");
        }
    }

    /// Computed by the independent implementation in `tests/reference.py`.
    const GOLDEN: [u64; 5] = [
        0xa25c09bcf0c8891a,
        0x0c798af552c676cd,
        0xe573ae919b5eb491,
        0xd352f778edb76834,
        0xfa7e58b6fdde3e0b,
    ];

    #[test]
    fn purposes_and_attempts_share_no_bits() {
        assert_eq!(tag(0, 5), 5);
        assert_eq!(tag(3, 0x00AB_CDEF), 0x03AB_CDEF);
    }

    #[test]
    fn every_field_matters() {
        let base = key(7, 1, 2, 3);
        let others = [key(8, 1, 2, 3), key(7, 2, 2, 3), key(7, 1, 3, 3), key(7, 1, 2, 4)];
        for other in others {
            assert_ne!(base.bits(Purpose::Ticket, 0), other.bits(Purpose::Ticket, 0));
        }
    }

    #[test]
    fn uniform_is_the_ticket_as_a_fraction() {
        for position in 0..1000 {
            let key = key(99, 4, 0, position);
            let (u, total) = (key.uniform(), 1_000_003);
            assert!((0.0..1.0).contains(&u));
            assert_eq!((u * total as f64) as u64, key.ticket(total));
        }
    }
}
