//! DRY, "don't repeat yourself" (p-e-w, 2024), as in llama.cpp: the token that would continue a
//! repetition is penalised, the more the longer the repetition is already.

use super::ProcessorParams;
use super::past::Past;
use super::rule::{Processor, at_least_zero, change};
use crate::error::{Error, Result};
use crate::parameter::{Field, Kind, Parameter, Setting, Value};

/// DRY's parameters, not yet checked. The default is llama.cpp's, which is off.
#[derive(Debug, Clone, PartialEq)]
pub struct DryParams {
    /// Scales the penalty, `multiplier * base^(length - allowed_length)`. 0 is off.
    pub multiplier: f64,
    /// How fast it grows; at least 1.
    pub base: f64,
    /// The shortest repetition that is penalised, in tokens that the sequence has already; at
    /// least 1.
    pub allowed_length: i64,
    /// How many of the last tokens are searched; None is all, including the prompt's.
    pub range: Option<i64>,
    /// Sequences that a repetition does not reach across: it counts from the end of the last one
    /// only. A breaker of one token is itself never penalised.
    pub sequence_breakers: Vec<Vec<u32>>,
}

impl Default for DryParams {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            range: None,
            sequence_breakers: Vec::new(),
        }
    }
}

const FIELDS: &[Field] = &[
    Field { name: "multiplier", kind: Kind::Number, default: Value::Number(0.0) },
    Field { name: "base", kind: Kind::Number, default: Value::Number(1.75) },
    Field { name: "allowed_length", kind: Kind::Integer, default: Value::Integer(2) },
    Field { name: "range", kind: Kind::Integer, default: Value::Nothing },
    Field { name: "sequence_breakers", kind: Kind::Sequences, default: Value::Nothing },
];

impl Setting for DryParams {
    fn read(value: Value) -> Option<Self> {
        let Value::Record(fields) = value else { return None };
        let mut dry = Self::default();
        for (name, value) in fields {
            match name {
                "multiplier" => dry.multiplier = Setting::read(value)?,
                "base" => dry.base = Setting::read(value)?,
                "allowed_length" => dry.allowed_length = Setting::read(value)?,
                "range" => dry.range = Setting::read(value)?,
                "sequence_breakers" => dry.sequence_breakers = Setting::read(value)?,
                _ => return None,
            }
        }
        Some(dry)
    }

    fn write(&self) -> Value {
        Value::Record(vec![
            ("multiplier", self.multiplier.write()),
            ("base", self.base.write()),
            ("allowed_length", self.allowed_length.write()),
            ("range", self.range.write()),
            ("sequence_breakers", Value::Sequences(self.sequence_breakers.clone())),
        ])
    }
}

/// DRY with a multiplier above zero.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dry {
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    range: usize,
    /// Sorted by the last token.
    breakers: Vec<Vec<u32>>,
}

impl Processor for Dry {
    type Given = Option<DryParams>;

    const PARAMETER: Parameter = Parameter {
        name: "dry",
        kind: Kind::Record(FIELDS),
        default: Value::Nothing,
        off: Value::Nothing,
        range: "multiplier at least 0, the others at least 1",
        help: "Penalty on continuing a repetition, as in llama.cpp: multiplier, and optionally \
               base (1.75), allowed_length (2), range (None: all) and sequence_breakers (token id \
               sequences).",
    };

    fn new(given: &Self::Given, _: &ProcessorParams) -> Result<Option<Self>> {
        let Some(given) = given else { return Ok(None) };
        let &DryParams { multiplier, base, allowed_length, range, ref sequence_breakers } = given;
        if !(multiplier.is_finite() && multiplier >= 0.0) {
            return Err(Error::DryMultiplier(multiplier));
        }
        if !(base.is_finite() && base >= 1.0) {
            return Err(Error::DryBase(base));
        }
        if allowed_length < 1 {
            return Err(Error::DryAllowedLength(allowed_length));
        }
        if let Some(range) = range
            && range < 1
        {
            return Err(Error::DryRange(range));
        }
        if let Some(index) = sequence_breakers.iter().position(Vec::is_empty) {
            return Err(Error::EmptySequence { name: "dry_sequence_breakers", index });
        }
        let mut breakers = sequence_breakers.clone();
        breakers.sort_unstable_by_key(|ids| ids[ids.len() - 1]);
        Ok((multiplier > 0.0).then_some(Self {
            multiplier,
            base,
            allowed_length: at_least_zero(allowed_length, Error::DryAllowedLength)?,
            range: range.map_or(Ok(usize::MAX), |range| at_least_zero(range, Error::DryRange))?,
            breakers,
        }))
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn bans(&self) -> bool {
        false
    }

    fn changes(&self) -> bool {
        true
    }

    fn apply(&self, row: &mut [f32], past: &mut Past) {
        let tokens = past.tokens();
        let size = tokens.len().min(self.range);
        let unbroken = self.after_breaker(&tokens[tokens.len() - size..]);
        let (repeats, longest) = past.repeats();
        for (distance, length) in repeats.iter().take_while(|&(distance, _)| distance < size) {
            let length = length.min(size - distance).min(unbroken);
            if length >= self.allowed_length {
                let known = longest.entry(tokens[tokens.len() - distance]).or_insert(0);
                *known = (*known).max(length as u32);
            }
        }
        // Each token once, so the map's order cannot be seen.
        for (&token, &length) in &*longest {
            if !self.ending_with(token).any(|breaker| breaker.len() == 1) {
                let penalty = self.penalty(length as usize);
                change(row, token, |logit| logit - penalty);
            }
        }
    }

    fn largest_id(given: &Self::Given) -> Option<(&'static str, u32)> {
        let breakers = given.iter().flat_map(|dry| &dry.sequence_breakers);
        breakers.flatten().max().map(|&id| ("dry_sequence_breakers", id))
    }
}

impl Dry {
    /// `multiplier * base^(length - allowed_length)`. The power by repeated squaring in double
    /// precision: fixed operations, where the platform's `pow` differs from machine to machine.
    fn penalty(&self, length: usize) -> f32 {
        let mut exponent = length - self.allowed_length;
        let (mut power, mut square) = (1.0, self.base);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power *= square;
            }
            square *= square;
            exponent >>= 1;
        }
        (self.multiplier * power) as f32
    }

    /// How many tokens come after the breaker that ends last; all where there is none.
    fn after_breaker(&self, tokens: &[u32]) -> usize {
        if self.breakers.is_empty() {
            return tokens.len();
        }
        let ended = |&after: &usize| {
            let before = &tokens[..tokens.len() - after];
            let last = before[before.len() - 1];
            self.ending_with(last).any(|breaker| before.ends_with(breaker))
        };
        (0..tokens.len()).find(ended).unwrap_or(tokens.len())
    }

    fn ending_with(&self, token: u32) -> impl Iterator<Item = &[u32]> {
        let last = |ids: &[u32]| ids[ids.len() - 1];
        let start = self.breakers.partition_point(|ids| last(ids) < token);
        self.breakers[start..].iter().map(Vec::as_slice).take_while(move |ids| last(ids) == token)
    }
}
