//! What the targets of the sampler check for a string of bytes: that no input panics, that exactly the
//! bad inputs are refused, and that the sampler keeps its promises for all others.

use fastdecode_core::parameter::{Kind, Value};
use fastdecode_core::{
    DrawContext, Elements, Error, Key, Level, Logits, Params, Result, Sampler, Workspace, queries,
};
use half::{bf16, f16};

/// Numbers of any bit pattern, read off the input; zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let count = N.min(self.0.len());
        bytes[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        bytes
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn wide(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// Any double, or one that is likely to be accepted.
    fn double(&mut self) -> f64 {
        match self.byte() % 4 {
            0 => f64::from_bits(self.wide()),
            1 => f64::from(self.byte()) / 255.0,
            2 => f64::from(self.word()) / f64::from(u32::MAX),
            _ => 1.0,
        }
    }

    fn optional<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.byte() % 2 == 1).then(|| value(self))
    }

    fn integer(&mut self) -> i64 {
        match self.byte() % 4 {
            0 => i64::from_le_bytes(self.take()),
            _ => i64::from(self.byte()),
        }
    }

    /// Any of the parameters in the core's table, with any values.
    fn params(&mut self) -> Params {
        let mut params = Params::default();
        for parameter in Params::table() {
            if self.byte() % 2 == 1 {
                let value = match parameter.kind {
                    Kind::Integer => Value::Integer(self.integer()),
                    Kind::Number => Value::Number(self.double()),
                    Kind::Numbers { names, .. } => {
                        Value::Numbers(names.iter().map(|_| self.double()).collect())
                    }
                    other => panic!("no values for {other:?}"),
                };
                assert!(params.set(parameter.name, value), "{}", parameter.name);
            }
        }
        params
    }

    fn key(&mut self) -> Key {
        Key { seed: self.wide(), stream: self.word(), sample: self.word(), position: self.word() }
    }

    /// One logit to a few bytes: any bits, an ordinary number, or one of few, for ties.
    fn row(&mut self) -> Vec<f32> {
        let kind = self.byte() % 4;
        let mut row = Vec::new();
        while !self.0.is_empty() {
            row.push(match kind {
                0 => f32::from_bits(self.word()),
                1 => f32::from(u16::from_le_bytes(self.take())) / 2048.0,
                2 => f16::from_le_bytes(self.take()).to_f32(),
                _ => [0.0, -0.0, 1.0, -1.0, f32::MIN, f32::NEG_INFINITY, 1e-45, 30.0]
                    [usize::from(self.byte() % 8)],
            });
        }
        row
    }
}

/// What a row is refused for, by looking at it plainly.
fn refusal(row: &[f32]) -> Option<Error> {
    if row.is_empty() {
        return Some(Error::EmptyVocabulary);
    }
    for (column, logit) in row.iter().enumerate() {
        if logit.is_nan() {
            return Some(Error::NotANumber { row: 0, column });
        }
        if *logit == f32::INFINITY {
            return Some(Error::PositiveInfinity { row: 0, column });
        }
    }
    row.iter().all(|&logit| logit == f32::NEG_INFINITY).then_some(Error::NothingAllowed { row: 0 })
}

/// One row of any bits, drawn from with any parameters.
pub fn row(data: &[u8]) {
    let mut input = Input(data);
    let params = input.params();
    let key = input.key();
    let context = DrawContext { key, mu: input.optional(Input::double) };
    let Ok(sampler) = Sampler::new(params) else { return };
    let row = input.row();
    let mut workspace = Workspace::default();
    let drawn = sampler.sample(&row, context, &mut workspace);
    if let Some(error) = refusal(&row) {
        assert_eq!(drawn, Err(error.clone()));
        assert_eq!(sampler.weights(&row, context, &mut workspace), Err(error.clone()));
        assert_eq!(queries::argmax(Level::detect(), &row, &mut workspace), Err(error.clone()));
        assert_eq!(queries::logsumexp(Level::detect(), &row, &mut workspace), Err(error));
        return;
    }
    let draw = drawn.unwrap();
    let weights = sampler.weights(&row, context, &mut workspace).unwrap();
    let total: u64 = weights.iter().sum();
    assert!(total > 0);
    assert_eq!(draw.total, total);
    assert_eq!(draw.ticket, key.ticket(total));
    assert_eq!(draw.weight, weights[draw.token as usize]);
    let before: u64 = weights[..draw.token as usize].iter().sum();
    assert!(before <= draw.ticket && draw.ticket < before + draw.weight);
    assert!(draw.logprob() <= 0.0);
    assert!(row[draw.token as usize].is_finite());

    // The ends of the map.
    let ends = sampler.redeem(&row, context, &[0, total - 1], &mut workspace).unwrap();
    let first = weights.iter().position(|&weight| weight > 0).unwrap();
    let last = weights.iter().rposition(|&weight| weight > 0).unwrap();
    assert_eq!([ends[0].token as usize, ends[1].token as usize], [first, last]);

    // Other instruction sets, and tokens nobody can draw, change nothing.
    for level in Level::available() {
        let other = sampler.with_level(level);
        assert_eq!(other.sample(&row, context, &mut workspace), Ok(draw));
        assert_eq!(other.weights(&row, context, &mut workspace).as_ref(), Ok(&weights));
    }
    let mut padded = row.clone();
    padded.resize(row.len() + 37, f32::NEG_INFINITY);
    assert_eq!(sampler.sample(&padded, context, &mut workspace), Ok(draw));

    plain_functions(&row, &mut workspace);
}

/// Argmax, top-k and log-probabilities of a row that is one.
fn plain_functions(row: &[f32], workspace: &mut Workspace) {
    let level = Level::detect();
    let mut order: Vec<usize> = (0..row.len()).collect();
    // Adding zero makes -0.0 equal to 0.0 for the total order of floats.
    order.sort_by(|&a, &b| (row[b] + 0.0).total_cmp(&(row[a] + 0.0)).then(a.cmp(&b)));
    assert_eq!(queries::argmax(level, row, workspace), Ok(order[0] as u32));
    for k in [1, row.len() / 3 + 1, row.len()] {
        let top = queries::top_k(level, row, i64::try_from(k).unwrap(), workspace).unwrap();
        let ids: Vec<usize> = top.iter().map(|candidate| candidate.id as usize).collect();
        assert_eq!(ids, order[..k]);
    }
    for logprob in queries::log_softmax(level, row, workspace).unwrap() {
        assert!(logprob <= 1e-6);
    }
}

/// A batch of any shape in any of the formats, against its rows one by one.
pub fn batch(data: &[u8]) {
    let mut input = Input(data);
    let Ok(sampler) = Sampler::new(input.params()) else { return };
    let key = input.key();
    let format = input.byte() % 3;
    let rows = usize::from(input.byte() % 9);
    let gap = usize::from(input.byte() % 5);
    let mut singles = Vec::new();
    let mut halves = Vec::new();
    let mut brains = Vec::new();
    while !input.0.is_empty() {
        match format {
            0 => singles.push(f32::from_bits(input.word())),
            1 => halves.push(f16::from_bits(u16::from_le_bytes(input.take()))),
            _ => brains.push(bf16::from_bits(u16::from_le_bytes(input.take()))),
        }
    }
    let widened: Vec<f32> = match format {
        0 => singles.clone(),
        1 => halves.iter().map(|x| x.to_f32()).collect(),
        _ => brains.iter().map(|x| x.to_f32()).collect(),
    };
    // As many rows as fit, `gap` elements apart; one row repeated where the gap says so.
    let Some(stride) = widened.len().checked_div(rows) else { return };
    let (vocabulary, stride) =
        if gap == 4 { (widened.len(), 0) } else { (stride.saturating_sub(gap), stride) };
    let elements = match format {
        0 => Elements::F32(&singles),
        1 => Elements::F16(&halves),
        _ => Elements::BF16(&brains),
    };
    let logits = Logits { elements, rows, vocabulary, stride };
    let key_of = |index: usize| Key { stream: index as u32, ..key };
    let got =
        logits.map(|index, row, workspace| sampler.sample(row, key_of(index).into(), workspace));
    if vocabulary == 0 {
        assert_eq!(got, Err(Error::EmptyVocabulary));
        return;
    }
    let mut workspace = Workspace::default();
    let expected: Result<Vec<_>> = (0..rows)
        .map(|index| {
            let row = &widened[index * stride..index * stride + vocabulary];
            sampler
                .sample(row, key_of(index).into(), &mut workspace)
                .map_err(|error| error.in_row(index))
        })
        .collect();
    assert_eq!(got, expected);
}

/// Any key and total: the ticket by the rule written out in wide integers.
pub fn key(data: &[u8]) {
    let mut input = Input(data);
    let key = input.key();
    let total = (input.wide() >> (input.byte() % 64)).max(1);
    let ticket = key.ticket(total);
    let overhang = (1u128 << 64) % u128::from(total);
    let mut attempt = 0;
    let expected = loop {
        let bits = key.bits(fastdecode_core::key::Purpose::Ticket, attempt);
        let product = u128::from(bits) * u128::from(total);
        if product % (1 << 64) >= overhang {
            break product >> 64;
        }
        attempt += 1;
    };
    assert_eq!(u128::from(ticket), expected);
    assert!(ticket < total);
    assert!((0.0..1.0).contains(&key.uniform()));
}
