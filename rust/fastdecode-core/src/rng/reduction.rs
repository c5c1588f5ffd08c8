//! From uniform words to a uniform integer below a total, without bias: Lemire's multiply-shift
//! with rejection ("Fast random integer generation in an interval", 2019).
//!
//! Written once for every width of word, so that the code that runs on 64 bits is proved on 8 and
//! 16 by trying every word.

/// An unsigned integer with products of double width.
pub(crate) trait Word: Copy + Ord {
    /// The upper and the lower half of `self * other`.
    fn wide_product(self, other: Self) -> (Self, Self);

    /// `2^width mod self`: how many words are left over when every integer gets the same share.
    fn overhang(self) -> Self;
}

macro_rules! word {
    ($word:ty, $wide:ty) => {
        impl Word for $word {
            #[inline]
            fn wide_product(self, other: Self) -> (Self, Self) {
                let product = <$wide>::from(self) * <$wide>::from(other);
                ((product >> <$word>::BITS) as $word, product as $word)
            }

            #[inline]
            fn overhang(self) -> Self {
                self.wrapping_neg() % self
            }
        }
    };
}

word!(u64, u128);
#[cfg(test)]
word!(u16, u32);
#[cfg(test)]
word!(u8, u16);

/// A uniform integer in `[0, total)` from uniform words, `bits(0)` first and `bits(n)` where
/// `bits(n - 1)` was rejected. `total` is not zero.
#[inline]
pub(crate) fn multiply_shift<W: Word>(total: W, mut bits: impl FnMut(u32) -> W) -> W {
    let mut attempt = 0;
    loop {
        let (high, low) = bits(attempt).wide_product(total);
        // The division is only needed where a rejection is possible at all.
        if low >= total || low >= total.overhang() {
            return high;
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Word, multiply_shift};

    /// The integer that a first word becomes, or `None` where it is rejected.
    fn first_attempt<W: Word>(total: W, word: W, accepted: W) -> Option<W> {
        let mut attempts = 0;
        let value = multiply_shift(total, |attempt| {
            attempts = attempt + 1;
            if attempt == 0 { word } else { accepted }
        });
        (attempts == 1).then_some(value)
    }

    /// Tries all 2^16 words: how many become each integer below `total`.
    fn shares(total: u16) -> Vec<u32> {
        let mut shares = vec![0; usize::from(total)];
        for word in 0..=u16::MAX {
            // The largest word is never rejected: its product's lower half is 2^16 - total.
            if let Some(value) = first_attempt(total, word, u16::MAX) {
                shares[usize::from(value)] += 1;
            }
        }
        shares
    }

    /// Every total and every word of 8 bits: each integer has the same share of the words, and
    /// no more words are rejected than the remainder that cannot be shared.
    #[test]
    fn eight_bits_are_shared_equally() {
        for total in 1..=u8::MAX {
            let mut shares = vec![0; usize::from(total)];
            for word in 0..=u8::MAX {
                if let Some(value) = first_attempt(total, word, u8::MAX) {
                    shares[usize::from(value)] += 1;
                }
            }
            assert!(shares.iter().all(|&share| share == 256 / u32::from(total)), "{total}");
        }
    }

    #[test]
    fn sixteen_bits_are_shared_equally() {
        let edges = (0..16).flat_map(|bit| {
            let power = 1u16 << bit;
            [power.saturating_sub(1).max(1), power, power + 1]
        });
        let spread = (1..=u16::MAX).step_by(257);
        for total in edges.chain(spread).chain([u16::MAX - 1, u16::MAX]) {
            let share = (1 << 16) / u32::from(total);
            assert!(shares(total).into_iter().all(|got| got == share), "{total}");
        }
    }

    /// All 2^32 pairs of a total and a word; run by hand, because it is slow.
    #[test]
    #[ignore = "exhaustive, by hand: cargo nextest run --run-ignored all every_total"]
    fn sixteen_bits_are_shared_equally_for_every_total() {
        for total in 1..=u16::MAX {
            let share = (1 << 16) / u32::from(total);
            assert!(shares(total).into_iter().all(|got| got == share), "{total}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// From word to token: over all 2^16 words, the tokens of a small law are drawn in the
        /// proportion of their weights, exactly, and tokens of weight zero never.
        #[test]
        fn all_words_draw_a_small_law_exactly(
            weights in prop::collection::vec(prop_oneof![2 => 0u64..300, 1 => Just(0)], 1..200)
                .prop_filter("something can be drawn", |weights| weights.iter().any(|&w| w > 0)),
        ) {
            let total: u64 = weights.iter().sum();
            prop_assume!(u16::try_from(total).is_ok());
            let mut counts = vec![0; weights.len()];
            for word in 0..=u16::MAX {
                if let Some(ticket) = first_attempt(total as u16, word, u16::MAX) {
                    let mut sum = 0;
                    let above = |weight: &u64| {
                        sum += weight;
                        sum > u64::from(ticket)
                    };
                    counts[weights.iter().position(above).unwrap()] += 1;
                }
            }
            let words_each = (1 << 16) / total;
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(*count, words_each * weight);
            }
        }

        /// 64 bits at the edges: a ticket's first and last word are its own, and the words
        /// beside them are the neighbours' or rejected.
        #[test]
        fn sixty_four_bits_at_the_edges(
            total in prop_oneof![1u64.., 1u64..1000, (0u32..64).prop_map(|bit| 1 << bit)],
            part in 0.0f64..1.0,
        ) {
            let ticket = ((total as f64 * part) as u64).min(total - 1);
            let edge = |ticket: u64| {
                // The least word whose product reaches `ticket * 2^64`.
                (u128::from(ticket) << 64).div_ceil(u128::from(total))
            };
            let own: Vec<u64> = (edge(ticket)..edge(ticket + 1))
                .map(|word| word as u64)
                .take(3)
                .collect();
            let last = (edge(ticket + 1) - 1) as u64;
            let mut accepted = 0;
            for word in own.iter().copied().chain([last]) {
                if let Some(value) = first_attempt(total, word, u64::MAX) {
                    prop_assert_eq!(value, ticket);
                    accepted += 1;
                }
            }
            prop_assert!(accepted > 0);
            // Of the words that map to the ticket, the share is kept and the rest rejected: at
            // most one, the first.
            let words = edge(ticket + 1) - edge(ticket);
            let share = (1u128 << 64) / u128::from(total);
            prop_assert!(words == share || words == share + 1);
            let first = first_attempt(total, own[0], u64::MAX);
            prop_assert_eq!(first.is_none(), words == share + 1);
        }
    }

    #[test]
    fn first_and_last_ticket() {
        for total in [1, 2, 3, 1 << 42, u64::MAX] {
            assert_eq!(multiply_shift(total, |_| u64::MAX), total - 1);
            // Zero bits are rejected unless the total divides 2^64; then the next attempt counts.
            let first = multiply_shift(total, |attempt| u64::from(attempt) * u64::MAX / 2);
            assert!(first < total);
        }
        assert_eq!(multiply_shift(1u64 << 42, |_| 0), 0);
    }

    #[test]
    fn a_rejection_takes_the_next_word() {
        let total = (1u64 << 63) + 1;
        assert_eq!(total.overhang(), (1 << 63) - 1);
        // 2 gives the lower half 2 (rejected), 3 gives 2^63 + 3 (accepted, upper half 1).
        assert_eq!(first_attempt(total, 2, 3), None);
        assert_eq!(multiply_shift(total, |attempt| if attempt < 5 { 2 } else { 3 }), 1);
    }
}
