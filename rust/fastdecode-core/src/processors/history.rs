//! What logits processors know of the text so far: a view of it, and the history that a sequence
//! keeps from step to step.

use std::ops::Add;

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};

/// The tokens of a row's sequence so far, without padding.
#[derive(Debug, Clone, Copy, Default)]
pub struct History<'a> {
    tokens: &'a [u32],
    prompt: usize,
    /// The counts of the first [`Counts::len`] tokens.
    counts: Option<&'a Counts>,
}

impl<'a> History<'a> {
    /// The prompt's tokens, then the generated ones; the first `prompt` are the prompt's.
    #[must_use]
    pub fn new(tokens: &'a [u32], prompt: usize) -> Self {
        Self { tokens, prompt, counts: None }
    }

    /// All tokens.
    #[must_use]
    pub fn tokens(self) -> &'a [u32] {
        self.tokens
    }

    /// How many of them are the prompt's.
    #[must_use]
    pub fn prompt(self) -> usize {
        self.prompt
    }

    /// How many tokens are generated, once all of them are checked.
    pub(super) fn generated(self, vocabulary: usize) -> Result<usize> {
        let Self { tokens, prompt, .. } = self;
        let (counts, rest) = self.counted();
        let known = counts.is_none_or(|counts| counts.fit(vocabulary));
        if !known || rest.iter().any(|&token| token as usize >= vocabulary) {
            let beyond = |&(_, &token): &(usize, &u32)| token as usize >= vocabulary;
            if let Some((position, &token)) = tokens.iter().enumerate().find(beyond) {
                return Err(Error::HistoryToken { row: 0, position, token, size: vocabulary });
            }
        }
        tokens.len().checked_sub(prompt).ok_or(Error::Prompt { row: 0, prompt, size: tokens.len() })
    }

    /// The counts so far, and the tokens that they do not cover yet.
    pub(super) fn counted(self) -> (Option<&'a Counts>, &'a [u32]) {
        let counted = self.counts.map_or(0, Counts::len);
        (self.counts, &self.tokens[counted..])
    }
}

/// How often a token occurs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// In the prompt and among the generated tokens.
    pub all: u32,
    /// Among the generated tokens.
    pub generated: u32,
}

impl Count {
    /// A token that occurs once.
    pub fn one(generated: bool) -> Self {
        Self { all: 1, generated: generated.into() }
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { all: self.all + other.all, generated: self.generated + other.generated }
    }
}

/// How often each token occurs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    len: usize,
    /// Each token once, in the order of first occurrence.
    entries: Vec<(u32, Count)>,
    /// Where in `entries` a token is.
    places: FxHashMap<u32, u32>,
    largest: u32,
}

impl Counts {
    /// How many tokens have been counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a token, of the prompt or generated.
    pub fn add(&mut self, token: u32, generated: bool) {
        self.len += 1;
        self.largest = self.largest.max(token);
        let one = Count::one(generated);
        let place = *self.places.entry(token).or_insert(self.entries.len() as u32);
        match self.entries.get_mut(place as usize) {
            Some((_, count)) => *count = *count + one,
            None => self.entries.push((token, one)),
        }
    }

    /// Adds tokens, the first `prompt` of which are the prompt's and the others generated.
    pub fn extend(&mut self, tokens: &[u32], prompt: usize) {
        for (index, &token) in tokens.iter().enumerate() {
            self.add(token, index >= prompt);
        }
    }

    /// How often a token occurs.
    pub fn of(&self, token: u32) -> Count {
        self.places.get(&token).map_or_else(Count::default, |&place| self.entries[place as usize].1)
    }

    /// Each token that occurs, once.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Count)> {
        self.entries.iter().copied()
    }

    /// Whether every token is one of a vocabulary of this size.
    fn fit(&self, vocabulary: usize) -> bool {
        self.len == 0 || (self.largest as usize) < vocabulary
    }
}

/// The history that a sequence keeps: append-only, so that what processors count about it is
/// updated for each token instead of counted again at each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceHistory {
    tokens: Vec<u32>,
    prompt: usize,
    counts: Option<Counts>,
}

impl SequenceHistory {
    /// Begins with `tokens`, the first `prompt` of which are the prompt's. `counted` tells whether
    /// a processor will use the counts; otherwise they are not kept.
    ///
    /// # Errors
    /// [`Error::Prompt`].
    pub fn new(tokens: Vec<u32>, prompt: usize, counted: bool) -> Result<Self> {
        if prompt > tokens.len() {
            return Err(Error::Prompt { row: 0, prompt, size: tokens.len() });
        }
        let counts = counted.then(|| {
            let mut counts = Counts::default();
            counts.extend(&tokens, prompt);
            counts
        });
        Ok(Self { tokens, prompt, counts })
    }

    /// All tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of them are the prompt's.
    #[must_use]
    pub fn prompt(&self) -> usize {
        self.prompt
    }

    /// The generated tokens.
    #[must_use]
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Appends a token.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(counts) = &mut self.counts {
            counts.add(token, true);
        }
    }

    /// The view of it that processors take.
    #[must_use]
    pub fn view(&self) -> History<'_> {
        History { tokens: &self.tokens, prompt: self.prompt, counts: self.counts.as_ref() }
    }

    /// The view of it after further tokens: `tokens` are all, those of this history first.
    ///
    /// # Panics
    /// If `tokens` are fewer than this history's.
    #[must_use]
    pub fn continued<'a>(&'a self, tokens: &'a [u32]) -> History<'a> {
        assert!(tokens.len() >= self.tokens.len(), "a continuation begins with the history");
        debug_assert!(tokens.starts_with(&self.tokens));
        History { tokens, prompt: self.prompt, counts: self.counts.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Count, Counts, History, SequenceHistory};
    use crate::error::Error;
    use crate::processors::{ProcessorParams, ProcessorWorkspace, Processors};

    fn counts(tokens: &[u32], prompt: usize) -> Counts {
        let mut counts = Counts::default();
        counts.extend(tokens, prompt);
        counts
    }

    #[test]
    fn counts_by_hand() {
        let some = counts(&[7, 3, 7, 7], 2);
        let (seven, three) = (Count { all: 3, generated: 2 }, Count { all: 1, generated: 0 });
        assert_eq!(some.iter().collect::<Vec<_>>(), [(7, seven), (3, three)]);
        assert_eq!((some.len(), some.of(7), some.of(3)), (4, seven, three));
        assert_eq!(some.of(0), Count::default());
        assert!(some.fit(8) && !some.fit(7));
        assert!(Counts::default().fit(0));
    }

    #[test]
    fn unknown_tokens_are_named_wherever_they_stand() {
        let refused = |tokens: &[u32], counted: usize| {
            let known = SequenceHistory::new(tokens[..counted].to_vec(), 0, true).unwrap();
            known.continued(tokens).generated(10).unwrap_err()
        };
        let at = |position, token| Error::HistoryToken { row: 0, position, token, size: 10 };
        assert_eq!(refused(&[1, 10, 2], 3), at(1, 10));
        assert_eq!(refused(&[1, 10, 2], 1), at(1, 10));
        assert_eq!(refused(&[1, 2, 11], 2), at(2, 11));
        assert_eq!(refused(&[10, 11], 1), at(0, 10));
    }

    #[test]
    fn a_prompt_is_no_longer_than_its_history() {
        let error = SequenceHistory::new(vec![1, 2], 3, false).unwrap_err();
        assert_eq!(error, Error::Prompt { row: 0, prompt: 3, size: 2 });
    }

    fn params() -> impl Strategy<Value = ProcessorParams> {
        (0.5..2.0f64, -1.0..1.0f64, -1.0..1.0f64, any::<bool>(), 0i64..4, 0i64..6).prop_map(
            |(repetition_penalty, frequency_penalty, presence_penalty, prompt, ngram, minimum)| {
                ProcessorParams {
                    repetition_penalty,
                    frequency_penalty,
                    presence_penalty,
                    penalties_count_prompt: prompt,
                    no_repeat_ngram_size: ngram,
                    min_new_tokens: minimum,
                    eos: vec![2],
                    ..ProcessorParams::default()
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_kept_history_changes_rows_as_one_that_is_counted_anew(
            params in params(),
            tokens in prop::collection::vec(0u32..6, 0..40),
            cut in 0usize..40,
            more in 0usize..4,
        ) {
            let processors = Processors::new(params).unwrap();
            let mut workspace = ProcessorWorkspace::default();
            let row = [0.5, -1.0, 2.0, 0.0, -0.25, f32::NEG_INFINITY];
            let prompt = cut.min(tokens.len());
            let mut kept =
                SequenceHistory::new(tokens[..prompt].to_vec(), prompt, true).unwrap();
            let fork = kept.clone();
            for &token in &tokens[prompt..tokens.len().saturating_sub(more).max(prompt)] {
                kept.push(token);
            }
            let mut of = |history: History<'_>| {
                let mut row = row;
                processors.apply(&mut row, history, &mut workspace).unwrap();
                row
            };
            let anew = of(History::new(&tokens, prompt));
            prop_assert_eq!(anew, of(kept.continued(&tokens)));
            prop_assert_eq!(anew, of(fork.continued(&tokens)));
            prop_assert_eq!(of(History::new(kept.tokens(), prompt)), of(kept.view()));
        }
    }
}
