//! A model in memory, and its forward pass.

use crate::attention::{Attention, Segment};
use crate::blocks::Blocks;
use crate::cache::{Sequence, Shape};
use crate::config::Config;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::fork::Fork;
use crate::linear::Output;
use crate::norm::Norm;
use crate::quantise::Quantised;
use crate::slab::Slabs;
use crate::tensors::Tensors;
use crate::weights::{Layer, NormPlace, Weights};
use fastdecode_simd::{DisjointSlice, Level, Pool, Session, settings};
use std::path::Path;
use std::sync::Arc;

/// Tokens that go through the model in one pass: they bound the memory of a prefill.
const PASS: usize = 768;

/// A GPT-2, ready to run.
pub struct Model {
    config: Config,
    weights: Weights,
    shape: Shape,
    slabs: Arc<Slabs>,
    level: Level,
    threads: usize,
}

/// Whose logits are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The last token's of each row.
    Last,
    /// Every token's.
    All,
}

/// Activations of a pass, kept from one to the next.
#[derive(Default)]
pub struct Scratch {
    stream: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    hidden: Vec<f32>,
    integers: Quantised,
    owners: Vec<u32>,
    segments: Vec<Segment>,
    tokens: Vec<u32>,
}

impl Model {
    /// From a folder with transformers' `config.json` and `model.safetensors`, its weights stored as
    /// `dtype`.
    ///
    /// # Errors
    /// Where a file cannot be read, is damaged, or belongs to another model.
    pub fn from_folder(folder: &Path, dtype: Dtype) -> Result<Self> {
        let at = |path: std::path::PathBuf| move |source| Error::File { path, source };
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(at(path.clone()))?;
        let config = Config::from_json(&text, &path)?;
        let path = folder.join("model.safetensors");
        let file = std::fs::File::open(&path).map_err(at(path.clone()))?;
        // SAFETY: the mapping is read while the weights are packed and not kept. Another process
        // that cuts the file short meanwhile would end this one, as it would any reader of a map.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(at(path))?;
        Self::new(config, &Tensors::from_map(&map)?, dtype)
    }

    /// From tensors by name, with the level and threads that the environment asks for.
    ///
    /// # Errors
    /// Where the tensors are not those of the configuration.
    pub fn new(config: Config, tensors: &Tensors<'_>, dtype: Dtype) -> Result<Self> {
        Self::with(config, tensors, dtype, settings::level()?, settings::threads()?)
    }

    /// The same, with this level and so many threads; neither changes a bit of the logits.
    ///
    /// # Errors
    /// Where the tensors are not those of the configuration.
    pub fn with(
        config: Config,
        tensors: &Tensors<'_>,
        dtype: Dtype,
        level: Level,
        threads: usize,
    ) -> Result<Self> {
        config.check()?;
        let weights = Weights::pack(&config, tensors, dtype, &mut Pool::global().session(threads))?;
        let shape = Shape::new(&config);
        let slabs = Arc::new(Slabs::new(shape.lines()));
        Ok(Self { config, weights, shape, slabs, level, threads })
    }

    /// Its numbers.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What its linear layers are stored as.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.weights.dtype()
    }

    /// The instruction set it runs on.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Threads it runs on.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes of its weights in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Bytes of one token of one row in the KV cache.
    #[must_use]
    pub fn bytes_per_token(&self) -> usize {
        self.shape.bytes_per_token()
    }

    /// Reads all weights once and does next to nothing with them: what the memory allows at most.
    #[must_use]
    pub fn read_once(&self) -> u32 {
        self.weights.read_once(self.level, &mut Pool::global().session(self.threads))
    }

    /// A row without tokens.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        Sequence::new(self.shape, Arc::clone(&self.slabs))
    }

    /// Appends `tokens[i]` to sequence i; writes the logits that are wanted, in the order of the
    /// sequences, `vocab_size` floats each.
    ///
    /// A row's logits depend on its tokens alone: they are the same bits in any company, in one
    /// pass or token by token, on any number of threads and any instruction set.
    ///
    /// # Errors
    /// Before any work, for a row that is empty, too long, or has an unknown token, or for memory that
    /// the system refuses.
    ///
    /// # Panics
    /// Where `logits` has another size than what is wanted.
    pub fn forward(
        &self,
        sequences: &mut [Sequence],
        tokens: &[&[u32]],
        wanted: Wanted,
        scratch: &mut Scratch,
        logits: &mut [f32],
    ) -> Result<()> {
        self.check(sequences, tokens)?;
        let count = match wanted {
            Wanted::Last => tokens.len(),
            Wanted::All => tokens.iter().map(|row| row.len()).sum(),
        };
        assert_eq!(logits.len(), count * self.config.vocab_size);
        let mut forks = Vec::new();
        let reserved = sequences
            .iter_mut()
            .zip(tokens)
            .try_for_each(|(sequence, tokens)| sequence.reserve(tokens.len(), &mut forks));
        let mut session = Pool::global().session(self.threads);
        // Before any error is told: rows that have parted lack what they parted at.
        Fork::make(&forks, self.shape, &mut session);
        drop(forks);
        reserved?;
        let mut logits = logits;
        let (mut row, mut done) = (0, 0);
        while row < tokens.len() {
            scratch.segments.clear();
            scratch.tokens.clear();
            scratch.owners.clear();
            // Rows of the pass whose logits are wanted.
            let mut heads = Vec::new();
            while row < tokens.len() && scratch.tokens.len() < PASS {
                let first = scratch.tokens.len();
                let part = &tokens[row][done..];
                let part = &part[..part.len().min(PASS - first)];
                scratch.owners.resize(first + part.len(), scratch.segments.len() as u32);
                scratch.segments.push(Segment {
                    sequence: row,
                    first,
                    count: part.len(),
                    start: sequences[row].len(),
                });
                scratch.tokens.extend_from_slice(part);
                done += part.len();
                let whole = done == tokens[row].len();
                match wanted {
                    Wanted::All => heads.extend(first..first + part.len()),
                    Wanted::Last if whole => heads.push(first + part.len() - 1),
                    Wanted::Last => {}
                }
                if whole {
                    (row, done) = (row + 1, 0);
                }
            }
            let (now, later) = logits.split_at_mut(heads.len() * self.config.vocab_size);
            self.pass(&mut session, sequences, scratch, &heads, now);
            logits = later;
            for segment in &scratch.segments {
                sequences[segment.sequence].advance(segment.count);
            }
        }
        Ok(())
    }

    fn check(&self, sequences: &[Sequence], tokens: &[&[u32]]) -> Result<()> {
        if sequences.len() != tokens.len() {
            let (got, rows) = (tokens.len(), sequences.len());
            return Err(Error::Length { name: "tokens", got, rows });
        }
        let (size, context) = (self.config.vocab_size, self.config.n_positions);
        for (row, (sequence, tokens)) in sequences.iter().zip(tokens).enumerate() {
            if tokens.is_empty() {
                return Err(Error::Empty { row });
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= size) {
                return Err(Error::Token { row, token: i64::from(token), size });
            }
            let length = sequence.len() + tokens.len();
            if length > context {
                return Err(Error::Context { row, length, context });
            }
        }
        Ok(())
    }

    /// One pass over the tokens of `scratch`.
    fn pass(
        &self,
        session: &mut Session<'_>,
        sequences: &[Sequence],
        scratch: &mut Scratch,
        heads: &[usize],
        logits: &mut [f32],
    ) {
        let (level, weights) = (self.level, &self.weights);
        let (rows, width, inner) = (scratch.tokens.len(), self.config.n_embd, self.config.inner());
        let blocks = Blocks::new(rows);
        let Scratch { stream, normed, qkv, hidden, integers, owners, segments, tokens } = scratch;
        stream.resize(rows * width, 0.0);
        normed.resize(rows * width, 0.0);
        qkv.resize(rows * 3 * width, 0.0);
        hidden.resize(rows * inner, 0.0);

        let parts = DisjointSlice::new(stream);
        session.run(rows, |row| {
            let segment = &segments[owners[row] as usize];
            let position = segment.start + row - segment.first;
            // SAFETY: a row is one task's.
            let to = unsafe { parts.part(row * width..(row + 1) * width) };
            weights.embed(tokens[row] as usize, position, to);
        });
        for (layer, block) in weights.blocks().iter().enumerate() {
            self.norm(&block.norm_1).apply(level, session, blocks, stream, width, normed);
            let to = DisjointSlice::new(qkv);
            weights.linear(block, Layer::Qkv).apply(
                level,
                session,
                blocks,
                normed,
                integers,
                Output::Rows(&to),
            );
            let attention = Attention {
                sequences,
                segments,
                owners,
                qkv,
                layer,
                heads: self.config.n_head,
                shape: self.shape,
            };
            attention.append(session, blocks);
            attention.attend(level, session, blocks, normed);
            let to = DisjointSlice::new(stream);
            let out = weights.linear(block, Layer::Out);
            out.apply(level, session, blocks, normed, integers, Output::Add(&to));
            self.norm(&block.norm_2).apply(level, session, blocks, stream, width, normed);
            let to = DisjointSlice::new(hidden);
            let up = weights.linear(block, Layer::Up);
            up.apply(level, session, blocks, normed, integers, Output::Gelu(&to));
            let to = DisjointSlice::new(stream);
            let down = weights.linear(block, Layer::Down);
            down.apply(level, session, blocks, hidden, integers, Output::Add(&to));
        }
        if heads.is_empty() {
            return;
        }
        // The rows that are wanted, one below the other; they only ever move up.
        for (to, &from) in heads.iter().enumerate() {
            stream.copy_within(from * width..(from + 1) * width, to * width);
        }
        let blocks = Blocks::new(heads.len());
        let (stream, normed) = (&stream[..heads.len() * width], &mut normed[..heads.len() * width]);
        self.norm(weights.last_norm()).apply(level, session, blocks, stream, width, normed);
        let to = DisjointSlice::new(logits);
        weights.head().apply(level, session, blocks, normed, integers, Output::Rows(&to));
    }

    fn norm(&self, place: &NormPlace) -> Norm<'_> {
        let (gain, bias) = self.weights.norm(place);
        Norm { gain, bias, epsilon: self.config.layer_norm_epsilon }
    }
}
