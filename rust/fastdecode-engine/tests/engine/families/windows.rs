//! Layers with a window on texts of many windows, of which the cache holds the last positions only; and
//! sequences that are cut back.

use super::{Small, VOCABULARY, all};
use crate::bits::digest;
use crate::small::{bits, logits, tokens};
use fastdecode_core::philox::philox4x32;
use fastdecode_engine::{Batch, CacheFormat, Format, Level, Model};
use std::sync::Arc;

/// Longer than two passes of a prompt.
const LONG: usize = 1700;

/// Digests of the logits of a long prompt in three passes and of the forty tokens after it, with float32 weights
/// and a cache in float32, bfloat16 and int8.
const GOLDEN: &[(&str, [u64; 3])] = &[
    ("qwen3", [0xae00_721e_785b_7546, 0xb626_9014_1b0b_b934, 0xcdbf_72a5_4dab_a972]),
    ("mistral", [0x3ffe_39dc_4336_c506, 0x8cc8_86b1_78ab_089c, 0xb3db_d4db_e058_d486]),
    ("gemma3_text", [0xc682_4bdc_2ee9_54c3, 0x77fd_b489_23e2_db5d, 0x5372_6388_b06a_545b]),
    ("gpt_neo", [0x7a2a_e8c6_bc48_518c, 0x137b_9daa_4976_0c51, 0xe4f6_98e3_b00f_b43e]),
];

/// The small models that have layers with a window, with a longer context.
fn windowed(context: usize) -> impl Iterator<Item = Small> {
    let named = |small: &Small| GOLDEN.iter().any(|(name, _)| *name == small.name);
    all().into_iter().filter(named).map(move |small| small.with_context(context))
}

fn model(small: &Small, cache: CacheFormat) -> Arc<Model> {
    Arc::new(small.model(Format::Float32, Level::detect(), 2).with_cache(cache))
}

#[test]
fn golden_digests_of_long_texts() {
    let text = tokens(2, LONG + 40);
    let found = windowed(text.len()).map(|small| {
        let digests = CacheFormat::ALL.map(|cache| {
            let mut batch = Batch::new(model(&small, cache));
            let mut logits = vec![0.0; VOCABULARY];
            batch.join(&[&text[..LONG]], &[1], &mut logits).unwrap();
            let mut words = bits(&logits);
            for token in &text[LONG..] {
                batch.step(&[*token], &mut logits).unwrap();
                words.extend(bits(&logits));
            }
            assert!(words.iter().all(|&word| f32::from_bits(word).is_finite()));
            digest(&words)
        });
        (small.name, digests)
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found, GOLDEN, "\n{found:#x?}");
}

const CONTEXT: usize = 400;

/// A batch, and what its rows consist of.
struct Rows {
    name: &'static str,
    model: Arc<Model>,
    batch: Batch,
    histories: Vec<Vec<u32>>,
}

impl Rows {
    fn new(small: &Small, cache: CacheFormat) -> Self {
        let model = model(small, cache);
        let batch = Batch::new(Arc::clone(&model));
        Self { name: small.name, model, batch, histories: Vec::new() }
    }

    /// Compares the logits of the rows from `first` on with those of fresh prompts, each a single pass, which
    /// holds all positions.
    fn check(&self, first: usize, out: &[f32]) {
        for (history, out) in self.histories[first..].iter().zip(out.chunks(VOCABULARY)) {
            let fresh = logits(&self.model, history);
            assert_eq!(bits(out), fresh[fresh.len() - VOCABULARY..], "{}", self.name);
        }
    }

    fn join(&mut self, prompt: &[u32], repeats: usize) {
        let first = self.histories.len();
        let mut out = vec![0.0; repeats * VOCABULARY];
        self.batch.join(&[prompt], &[repeats], &mut out).unwrap();
        self.histories.extend(std::iter::repeat_n(prompt.to_vec(), repeats));
        self.check(first, &out);
    }

    fn keep(&mut self, rows: &[usize]) {
        self.batch.keep(&signed(rows)).unwrap();
        self.histories = rows.iter().map(|&row| self.histories[row].clone()).collect();
    }

    fn truncate(&mut self, row: usize, length: usize) {
        self.histories[row].truncate(length);
        let lengths: Vec<usize> = self.histories.iter().map(Vec::len).collect();
        self.batch.truncate(&signed(&lengths)).unwrap();
    }

    fn step(&mut self, next: Vec<u32>, compare: bool) {
        let mut out = vec![0.0; next.len() * VOCABULARY];
        self.batch.step(&next, &mut out).unwrap();
        self.histories.iter_mut().zip(next).for_each(|(history, token)| history.push(token));
        if compare {
            self.check(0, &out);
        }
    }
}

fn signed(numbers: &[usize]) -> Vec<i64> {
    numbers.iter().map(|&x| i64::try_from(x).unwrap()).collect()
}

/// Rows join, take steps, leave, change places, are forked and cut back.
#[test]
fn random_programs() {
    let models = CacheFormat::ALL
        .into_iter()
        .chain([CacheFormat::Float32])
        .flat_map(|cache| windowed(CONTEXT).map(move |small| (small, cache)));
    for (program, (small, cache)) in models.enumerate() {
        let mut rows = Rows::new(&small, cache);
        for step in 0..60 {
            let words = philox4x32([step, 0, 0, 0], [program as u32, 5]);
            let [kind, one, two, three] = words.map(|word| word as usize);
            // Rows at the end of the context leave.
            let short = |row: &usize| rows.histories[*row].len() < CONTEXT - 20;
            let short: Vec<usize> = (0..rows.histories.len()).filter(short).collect();
            rows.keep(&short);
            let count = short.len();
            if count == 0 || kind % 6 == 0 {
                rows.join(&tokens(one % 50, 1 + two % 150), 1 + three % 2);
            } else if kind % 6 == 1 {
                let order: Vec<usize> = (0..=one % 4).map(|i| (two + i * three) % count).collect();
                rows.keep(&order);
            } else if kind % 6 == 2 {
                let row = one % count;
                let (length, shortest) =
                    (rows.histories[row].len(), rows.batch.sequences()[row].shortest());
                assert!(shortest <= length);
                let some = length - three % (length - shortest + 1);
                rows.truncate(row, if two % 8 == 0 { 0 } else { some });
            } else {
                for round in 0..=one % 20 {
                    let token = |row| ((row * 7 + round * 5 + two) % VOCABULARY) as u32;
                    rows.step((0..count).map(token).collect(), round % 7 == 0);
                }
            }
        }
        let Rows { model, batch, .. } = rows;
        drop(batch);
        assert_eq!(model.cache_bytes(), 0);
    }
}

/// After ten windows, layers with a window hold no more than after one, and the others all positions.
#[test]
fn memory_ends_with_the_window() {
    for (small, cache) in windowed(CONTEXT).zip(CacheFormat::ALL.into_iter().cycle()) {
        let model = model(&small, cache);
        let mut batch = Batch::new(Arc::clone(&model));
        let mut out = vec![0.0; VOCABULARY];
        batch.join(&[&tokens(1, 128)], &[1], &mut out).unwrap();
        let first = model.cache_bytes();
        for token in tokens(3, 192) {
            batch.step(&[token], &mut out).unwrap();
        }
        // Gemma 3, Qwen3 and GPT-Neo have one layer with a window and one without.
        let full = if small.name == "mistral" { 0 } else { model.bytes_per_token() / 2 };
        assert_eq!(model.cache_bytes() - first, 192 * full, "{}", small.name);
        assert_eq!(batch.sequences()[0].bytes(), model.cache_bytes());
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_and_change_nothing() {
    let small = windowed(CONTEXT).find(|small| small.name == "mistral").unwrap();
    let mut batch = Batch::new(model(&small, CacheFormat::Float32));
    let mut out = vec![0.0; 2 * VOCABULARY];
    batch.join(&[&tokens(1, 200), &tokens(2, 7)], &[1, 1], &mut out).unwrap();
    for (lengths, message) in [
        (&[200][..], "lengths has 1 entries for 2 rows; give one a row"),
        (
            &[200, -1],
            "lengths[1]=-1 is outside 0..=7, the lengths that a sequence of 7 tokens can be cut back to",
        ),
        (
            &[201, 1],
            "lengths[0]=201 is outside 0..=200, the lengths that a sequence of 200 tokens can be cut back to",
        ),
        (
            &[1, 1],
            "lengths[0]=1: layers with a window have given back what a sequence of 200 tokens needs to go on \
             from there; cut it back to at least 168 tokens, or to 0 and give its tokens again",
        ),
    ] {
        assert_eq!(batch.truncate(lengths).unwrap_err().to_string(), message);
        assert_eq!([batch.sequences()[0].len(), batch.sequences()[1].len()], [200, 7]);
    }
    batch.truncate(&[0, 3]).unwrap();
    assert_eq!([batch.sequences()[0].shortest(), batch.sequences()[0].len()], [0, 0]);
}
