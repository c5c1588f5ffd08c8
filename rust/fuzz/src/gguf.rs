//! What the target of GGUF files checks for a string of bytes: that no file panics or takes memory that its
//! size does not explain, that all of a file which opens can be read, and that a model which loads also runs.

use crate::builder::{Builder, array, entry, string, tensor};
use crate::running::{place, run};
use crate::watched::took;
use fastdecode_engine::gguf::{Gguf, Value};
use fastdecode_engine::{Format, Model, Storage};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Values of `general.architecture`, and what the keys of an architecture begin with.
const ARCHITECTURES: [&str; 6] = ["llama", "qwen2", "qwen3", "gemma3", "gpt2", "unknown"];
/// Keys that mean something; those that begin with a dot follow the name of the architecture.
const KEYS: [&str; 44] = [
    ".embedding_length",
    ".feed_forward_length",
    ".block_count",
    ".context_length",
    ".attention.head_count",
    ".attention.head_count_kv",
    ".attention.layer_norm_rms_epsilon",
    ".attention.layer_norm_epsilon",
    ".attention.key_length",
    ".attention.value_length",
    ".attention.sliding_window",
    ".attention.sliding_window_pattern",
    ".attention.causal",
    ".rope.dimension_count",
    ".rope.freq_base",
    ".rope.freq_base_swa",
    ".rope.scale_linear",
    ".rope.scaling.type",
    ".rope.scaling.factor",
    ".rope.scaling.original_context_length",
    ".rope.scaling.yarn_beta_fast",
    ".rope.scaling.yarn_beta_slow",
    ".final_logit_softcapping",
    ".vocab_size",
    ".expert_count",
    ".unknown",
    "general.architecture",
    "general.alignment",
    "split.count",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.chat_template",
    "tokenizer.chat_templates",
    "a",
    "\u{10ffff}",
    "",
];
const NAMES: [&str; 29] = [
    "token_embd.weight",
    "output_norm.weight",
    "output.weight",
    "rope_freqs.weight",
    "blk.0.attn_norm.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_k.weight",
    "blk.0.attn_v.weight",
    "blk.0.attn_output.weight",
    "blk.0.ffn_norm.weight",
    "blk.0.ffn_gate.weight",
    "blk.0.ffn_up.weight",
    "blk.0.ffn_down.weight",
    "blk.0.attn_q_norm.weight",
    "blk.0.attn_k_norm.weight",
    "blk.0.post_attention_norm.weight",
    "blk.0.post_ffw_norm.weight",
    "position_embd.weight",
    "output_norm.bias",
    "blk.0.attn_norm.bias",
    "blk.0.attn_qkv.weight",
    "blk.0.attn_qkv.bias",
    "blk.0.attn_output.bias",
    "blk.0.ffn_norm.bias",
    "blk.0.ffn_up.bias",
    "blk.0.ffn_down.bias",
    "blk.0.attn_q.bias",
    "blk.0.attn_k.bias",
    "blk.0.attn_v.bias",
];
/// Says that a name follows, which is none of the tables'.
const SPELLED: u8 = 127;
/// Set for tensors, and not for metadata.
const TENSOR: u8 = 128;
/// Bytes of the largest data that a description gets, and elements of the largest tensor that is read.
const MOST: u64 = 1 << 16;
const STRING: u8 = 8;
const ARRAY: u8 = 9;

/// Any bytes as a GGUF file.
///
/// Odd bytes at the front say that a description follows: the metadata and the tensors one by one, without
/// the lengths, counts and offsets of the container. Otherwise a change to one of these hides all that
/// comes after it.
pub fn gguf(data: &[u8]) {
    formats(data);
}

/// The same; returns the number of formats in which the file is a model that runs.
pub fn formats(data: &[u8]) -> usize {
    match data.split_first() {
        None => 0,
        Some((kind, rest)) if kind % 2 == 0 => check(rest),
        Some((_, rest)) => check(&Described(rest).file()),
    }
}

/// The names that mean something in a file.
pub fn names() -> impl Iterator<Item = &'static str> {
    let keys = KEYS.iter().filter(|key| key.len() > 1 && key.is_ascii());
    keys.chain(&NAMES).chain(&ARCHITECTURES).copied()
}

/// A description that is being read. After its end there are zeros.
struct Described<'a>(&'a [u8]);

impl Described<'_> {
    fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (found, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        let mut found = found.to_vec();
        found.resize(count, 0);
        found
    }

    fn text(&mut self) -> Vec<u8> {
        let length = self.byte();
        self.bytes(length.into())
    }

    fn file(mut self) -> Vec<u8> {
        let architecture = ARCHITECTURES[usize::from(self.byte()) % ARCHITECTURES.len()];
        let mut file =
            Builder { version: 3, entries: vec![], tensors: vec![], alignment: 32, data: vec![] };
        file.entries.push(entry("general.architecture", STRING.into(), &string(architecture)));
        let mut end = 0;
        while !self.0.is_empty() {
            let tag = self.byte();
            if tag & TENSOR == 0 {
                let key = self.name(tag, &KEYS);
                let prefix: &[u8] =
                    if key.starts_with(b".") { architecture.as_bytes() } else { b"" };
                let kind = self.byte();
                let value = self.value(kind, 0);
                file.entries.push(entry([prefix, &key].concat(), kind.into(), &value));
            } else {
                let name = self.name(tag & !TENSOR, &NAMES);
                let (tensor, bytes) = self.tensor(&name, end);
                file.tensors.push(tensor);
                end += bytes.next_multiple_of(32);
            }
        }
        file.data = (0..end.min(MOST)).map(|i| (i * 7) as u8 & 63).collect();
        file.bytes()
    }

    fn name(&mut self, tag: u8, table: &[&str]) -> Vec<u8> {
        if tag == SPELLED { self.text() } else { table[usize::from(tag) % table.len()].into() }
    }

    fn value(&mut self, kind: u8, level: usize) -> Vec<u8> {
        match kind {
            0 | 1 | 7 => self.bytes(1),
            2 | 3 => self.bytes(2),
            4..=6 => self.bytes(4),
            STRING => string(self.text()),
            ARRAY if level < 12 => {
                let (kind, count) = (self.byte(), self.byte());
                // After the description's end, arrays of arrays of zeros have no end.
                let count = if self.0.is_empty() { 0 } else { count };
                let mut values = Vec::new();
                for _ in 0..count {
                    values.extend(self.value(kind, level + 1));
                    if values.len() as u64 > MOST {
                        break;
                    }
                }
                array(kind.into(), count.into(), &values)
            }
            _ => self.bytes(8),
        }
    }

    /// A tensor's description, and the bytes that it needs. It lies at `end`, where it does not say
    /// otherwise.
    fn tensor(&mut self, name: &[u8], end: u64) -> (Vec<u8>, u64) {
        let (encoding, dimensions) = (self.byte(), self.byte());
        let sizes: Vec<u64> = (0..dimensions % 8)
            .map(|_| match self.byte() {
                u8::MAX => self.wide(),
                size => size.into(),
            })
            .collect();
        let offset = if dimensions & 64 == 0 { end } else { self.wide() };
        let bytes = sizes.iter().try_fold(4u64, |product, &size| product.checked_mul(size));
        let bytes = bytes.filter(|&bytes| bytes <= MOST).unwrap_or(0);
        (tensor(name, &sizes, encoding.into(), offset), bytes)
    }

    fn wide(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().expect("eight bytes"))
    }
}

/// A description in the making.
struct Description(Vec<u8>);

impl Description {
    fn key(mut self, key: &str, kind: u8, value: &[u8]) -> Self {
        self.0.extend([index_of(&KEYS, key), kind]);
        self.0.extend(value);
        self
    }

    fn counts(self, values: &[(&str, u32)]) -> Self {
        values.iter().fold(self, |made, (key, value)| made.key(key, 4, &value.to_le_bytes()))
    }

    fn floats(self, values: &[(&str, f32)]) -> Self {
        values.iter().fold(self, |made, (key, value)| made.key(key, 6, &value.to_le_bytes()))
    }

    fn text(self, key: &str, text: &str) -> Self {
        self.key(key, STRING, &[&[text.len() as u8], text.as_bytes()].concat())
    }

    fn texts(self, key: &str, texts: &[&str]) -> Self {
        let mut value = vec![STRING, texts.len() as u8];
        for text in texts {
            value.push(text.len() as u8);
            value.extend(text.bytes());
        }
        self.key(key, ARRAY, &value)
    }

    fn tensors(mut self, tensors: &[(&str, &[u8])]) -> Self {
        for (name, sizes) in tensors {
            self.0.extend([TENSOR | index_of(&NAMES, name), 0, sizes.len() as u8]);
            self.0.extend(*sizes);
        }
        self
    }
}

fn index_of(table: &[&str], name: &str) -> u8 {
    table.iter().position(|known| *known == name).expect("a name of the table") as u8
}

/// What the target begins with: small whole models, one of each architecture, as descriptions and as files.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let made: Vec<_> = (0..5).map(|architecture| described(architecture).0).collect();
    let whole =
        |description: &Vec<u8>| [&[0], Described(&description[1..]).file().as_slice()].concat();
    let files: Vec<_> = made.iter().map(whole).collect();
    [made, files].concat()
}

/// A file with values of every type, which is no model.
#[must_use]
pub fn values() -> Vec<u8> {
    [&[0], Builder::small().bytes().as_slice()].concat()
}

fn described(architecture: u8) -> Description {
    let made = Description(vec![1, architecture])
        .counts(&[
            (".embedding_length", 4),
            (".feed_forward_length", 4),
            (".block_count", 1),
            (".context_length", 4),
            (".attention.head_count", 2),
            ("tokenizer.ggml.bos_token_id", 0),
            ("tokenizer.ggml.eos_token_id", 1),
        ])
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &["a", "b", "ab"])
        .texts("tokenizer.ggml.merges", &["a b"])
        .tensors(&[("token_embd.weight", &[4, 3]), ("output_norm.weight", &[4])]);
    let gated = |made: Description| {
        made.counts(&[(".attention.head_count_kv", 1), (".attention.key_length", 2)])
            .floats(&[(".attention.layer_norm_rms_epsilon", 1e-5), (".rope.freq_base", 1e4)])
            .tensors(&[
                ("blk.0.attn_norm.weight", &[4]),
                ("blk.0.attn_q.weight", &[4, 4]),
                ("blk.0.attn_k.weight", &[4, 2]),
                ("blk.0.attn_v.weight", &[4, 2]),
                ("blk.0.attn_output.weight", &[4, 4]),
                ("blk.0.ffn_norm.weight", &[4]),
                ("blk.0.ffn_gate.weight", &[4, 4]),
                ("blk.0.ffn_up.weight", &[4, 4]),
                ("blk.0.ffn_down.weight", &[4, 4]),
            ])
    };
    let norms: [(&str, &[u8]); 2] =
        [("blk.0.attn_q_norm.weight", &[2]), ("blk.0.attn_k_norm.weight", &[2])];
    match ARCHITECTURES[usize::from(architecture)] {
        "qwen3" => gated(made).tensors(&norms),
        "gemma3" => {
            gated(made).counts(&[(".attention.sliding_window", 2)]).tensors(&norms).tensors(&[
                ("blk.0.post_attention_norm.weight", &[4]),
                ("blk.0.post_ffw_norm.weight", &[4]),
            ])
        }
        "gpt2" => made.floats(&[(".attention.layer_norm_epsilon", 1e-5)]).tensors(&[
            ("position_embd.weight", &[4, 4]),
            ("output_norm.bias", &[4]),
            ("blk.0.attn_norm.weight", &[4]),
            ("blk.0.attn_norm.bias", &[4]),
            ("blk.0.attn_qkv.weight", &[4, 12]),
            ("blk.0.attn_qkv.bias", &[12]),
            ("blk.0.attn_output.weight", &[4, 4]),
            ("blk.0.attn_output.bias", &[4]),
            ("blk.0.ffn_norm.weight", &[4]),
            ("blk.0.ffn_norm.bias", &[4]),
            ("blk.0.ffn_up.weight", &[4, 4]),
            ("blk.0.ffn_up.bias", &[4]),
            ("blk.0.ffn_down.weight", &[4, 4]),
            ("blk.0.ffn_down.bias", &[4]),
        ]),
        "qwen2" => gated(made).tensors(&[
            ("blk.0.attn_q.bias", &[4]),
            ("blk.0.attn_k.bias", &[2]),
            ("blk.0.attn_v.bias", &[2]),
        ]),
        _ => gated(made).counts(&[(".rope.dimension_count", 2)]),
    }
}

/// Opens a file and reads all of it; the number of formats in which it is a model.
fn check(bytes: &[u8]) -> usize {
    let (copy, size) = (bytes.to_vec(), bytes.len());
    let (file, took) = took(|| Gguf::new(Box::new(copy)));
    // An error has a name and a few numbers of its own.
    assert!(took.largest <= size.max(256), "{} of {size} at a time", took.largest);
    assert!(took.most <= 3 * size.cast_signed() + 1024, "{} of {size} in all", took.most);
    let Ok(file) = file else { return 0 };
    for key in file.keys() {
        walk(file.get(key).expect("a key of the file"));
    }
    for tensor in file.tensors() {
        if tensor.elements() <= MOST {
            let mut all = vec![0.0; tensor.elements() as usize];
            if file.read(&tensor, 0, &mut all).is_ok() {
                rows(&all, tensor.width() as usize, |first, to| {
                    file.read(&tensor, first as u64, to).expect("it could be read whole");
                });
            }
        }
    }
    let config = file.config();
    let Ok(weights) = file.weights() else { return 0 };
    for weight in weights.iter().filter(|weight| weight.elements() as u64 <= MOST) {
        let (mut all, mut buffer) = (vec![0.0; weight.elements()], Vec::new());
        weight.read(0, &mut all, &mut buffer).expect("the file is in memory");
        rows(&all, weight.shape.last().copied().unwrap_or(1), |first, to| {
            weight.read(first, to, &mut Vec::new()).expect("the file is in memory");
        });
    }
    if config.is_ok() { load(bytes) } else { 0 }
}

/// All values within a value.
fn walk(value: Value<'_>) {
    let Some(array) = value.as_array() else { return };
    assert_eq!(array.iter().count() as u64, array.len());
    array.iter().filter(|inner| inner.as_array().is_some()).for_each(walk);
}

/// Checks that rows which are read by themselves are those of the whole.
fn rows(all: &[f32], width: usize, read: impl Fn(usize, &mut [f32])) {
    for row in [0, all.len() / width / 2, all.len() / width - 1] {
        let mut alone = vec![0.0; width];
        read(row * width, &mut alone);
        let whole = &all[row * width..][..width];
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(alone.iter().zip(whole).all(same));
    }
}

/// All ways to store the model of a file.
pub fn storages() -> Vec<Storage> {
    let mut all: Vec<Storage> = Format::ALL.map(Storage::from).into();
    all.extend([Storage::AsInFile, Storage::Kept(Format::Int8), Storage::Kept(Format::Int4)]);
    all
}

/// Loads the model of a file in every way; one that loads is run.
fn load(bytes: &[u8]) -> usize {
    static PLACE: LazyLock<PathBuf> = LazyLock::new(|| place("gguf"));
    std::fs::write(&*PLACE, bytes).expect("a file for the model");
    let most = 64 * bytes.len().cast_signed() + (8 << 20);
    let open = |storage| {
        let (model, took) = took(|| Model::from_gguf(&PLACE, storage).ok());
        assert!(took.most < most, "{} for a file of {}", took.most, bytes.len());
        model
    };
    let models = storages().into_iter().filter_map(open).inspect(|model| run(model, bytes.len()));
    let count = models.count();
    std::fs::remove_file(&*PLACE).expect("the file is there");
    count
}
