//! A model in memory.

use crate::cache::{CacheFormat, Layout, Prefixes, Reserved, Sequence};
use crate::error::{Error, Result};
use crate::models::{Config, Network, Pass};
use crate::ops::{Run, sweep};
use crate::weights::{
    Checkpoint, Format, GgufModel, Packed, PackedFile, Packing, Storage, Tensors, Weights,
};
use crate::workspace::{Idle, Workspace};
use fastdecode_simd::{Level, Line, PerProcess, Pool, settings};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most tokens of a pass: they bound the memory of a prefill, and the time until an interrupt is
/// noticed.
const PASS: usize = 512;

/// A model, ready to run.
pub struct Model {
    config: Config,
    network: Box<dyn Network>,
    weights: Weights,
    storage: Storage,
    layout: Arc<Layout>,
    level: Level,
    threads: usize,
    idle: Idle,
    /// The most bytes of `prefixes`.
    kept: AtomicUsize,
    /// A forked process starts without any: another thread may have held the lock at the fork.
    prefixes: PerProcess<Mutex<Prefixes>>,
}

/// The tokens whose logits are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The last token of each sequence.
    Last,
    /// Every token.
    All,
}

impl Model {
    /// From a folder with transformers' `config.json` and `model.safetensors`, or several safetensors files
    /// with an index, with its matrices stored in `format`.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, is changed while it is read, or belongs to a model that this
    /// engine cannot run; or if the system refuses memory.
    pub fn from_folder(folder: &Path, format: Format) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| Error::file(&path, source))?;
        let config = Config::from_json(&text, &path).map_err(|error| error.within(&path))?;
        let checkpoint = Checkpoint::open(folder)?;
        let tensors = checkpoint.tensors().map_err(Error::of_weights)?;
        Self::new(config, &tensors, format).map_err(|error| error.within(checkpoint.path()))
    }

    /// From a GGUF file. Where it is told to convert quantised weights, their values are those of the reference,
    /// in float32.
    ///
    /// # Errors
    /// As [`Self::from_folder`].
    pub fn from_gguf(path: &Path, storage: impl Into<Storage>) -> Result<Self> {
        Self::from_open_gguf(&GgufModel::open(path)?, storage)
    }

    /// [`Self::from_gguf`] from a file that has been opened, if it has not been written to since.
    ///
    /// # Errors
    /// As [`Self::from_folder`].
    pub fn from_open_gguf(file: &GgufModel, storage: impl Into<Storage>) -> Result<Self> {
        let (level, threads) = (settings::level()?, settings::threads()?);
        Self::from_open_gguf_with(file, storage, level, threads)
    }

    /// [`Self::from_open_gguf`] with this level and at most this number of threads.
    ///
    /// # Errors
    /// As [`Self::from_folder`].
    pub fn from_open_gguf_with(
        file: &GgufModel,
        storage: impl Into<Storage>,
        level: Level,
        threads: usize,
    ) -> Result<Self> {
        let (config, weights) = (Config::of_gguf(file)?, file.weights()?);
        let model = Self::with(config, &file.tensors(&weights), storage, level, threads);
        model.map_err(|error| error.within(file.path()))
    }

    /// From tensors by name, with the level and the number of threads that the environment chooses.
    ///
    /// # Errors
    /// If the tensors do not fit the configuration, or a variable of the environment cannot be used.
    pub fn new(config: Config, tensors: &Tensors<'_>, format: Format) -> Result<Self> {
        Self::with(config, tensors, format, settings::level()?, settings::threads()?)
    }

    /// From tensors by name, with this level and at most this number of threads. Neither changes a bit of
    /// the logits.
    ///
    /// # Errors
    /// If the tensors do not fit the configuration.
    pub fn with(
        config: Config,
        tensors: &Tensors<'_>,
        storage: impl Into<Storage>,
        level: Level,
        threads: usize,
    ) -> Result<Self> {
        let storage = storage.into();
        let packing = Packing::new(tensors, config.0.prefix(), storage);
        Self::of_packing(config, packing, storage, level, threads)
    }

    /// From a packed file, with the level and the number of threads that the environment chooses.
    ///
    /// # Errors
    /// If it cannot be read, is damaged outside its weights, or has been written to since it was opened; or if
    /// the system refuses memory. Damaged weights are found by [`PackedFile::check`].
    pub fn from_packed(file: &PackedFile) -> Result<Self> {
        let (level, threads) = (settings::level()?, settings::threads()?);
        let config = Config::from_json(&file.config()?, file.path());
        let model = config.and_then(|config| {
            Self::of_packing(config, Packing::of_packed(file), file.storage(), level, threads)
        });
        model.map_err(|error| error.within(file.path()))
    }

    /// The packed file of this model.
    ///
    /// # Arguments
    /// - `source`: what it was packed from, for [`PackedFile::source`].
    /// - `files`: names and contents of the files that travel with it, among them the `config.json` that the
    ///   model was made of.
    ///
    /// # Errors
    /// If there is no `config.json`, or a name cannot be that of a file in a folder.
    pub fn pack(&self, source: &str, files: &[(&str, &[u8])]) -> Result<Packed<'_>> {
        let (contents, lines) = (self.weights.contents(), self.weights.lines());
        Packed::new(self.storage, contents, lines, source, files)
    }

    /// Its weights as a packed file has them, after [`Packed::head`].
    #[must_use]
    pub fn weights_as_bytes(&self) -> &[u8] {
        Line::all_bytes(self.weights.lines())
    }

    fn of_packing(
        config: Config,
        mut packing: Packing<'_>,
        storage: Storage,
        level: Level,
        threads: usize,
    ) -> Result<Self> {
        let network =
            config.0.network(&mut packing, storage.format()).map_err(Error::of_weights)?;
        let weights = packing.finish(&mut Pool::global().session(threads));
        let weights = weights.map_err(Error::of_weights)?;
        let layout = Arc::new(Layout::new(config.0.cache_shape(), &network.windows()));
        Ok(Self {
            config,
            network,
            weights,
            storage,
            layout,
            level,
            threads,
            idle: Idle::default(),
            kept: AtomicUsize::new(0),
            prefixes: PerProcess::new(),
        })
    }

    /// The same model with the keys and values of its sequences in another format than float32.
    #[must_use]
    pub fn with_cache(mut self, format: CacheFormat) -> Self {
        let shape = self.config.0.cache_shape().with_format(format);
        self.layout = Arc::new(Layout::new(shape, &self.network.windows()));
        self
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How its matrices are stored.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The format of the keys and values of its sequences.
    #[must_use]
    pub fn cache_format(&self) -> CacheFormat {
        self.layout.format()
    }

    /// The number of its format's definition, "int8/1", and that of its cache's where that is not float32,
    /// "int8/1, KV cache int8/1".
    #[must_use]
    pub fn definition(&self) -> String {
        let (weights, cache) = (self.storage.definition(), self.cache_format());
        match cache {
            CacheFormat::Float32 => weights.to_owned(),
            smaller => format!("{weights}, KV cache {}", smaller.definition()),
        }
    }

    /// The instruction set that it runs on.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The most threads that it runs on.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes of its weights in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Bytes of one token of one sequence in the KV cache. Layers with a window give those of a token back once
    /// it is out of reach.
    #[must_use]
    pub fn bytes_per_token(&self) -> usize {
        self.layout.bytes_per_token()
    }

    /// Bytes of the KV cache that its sequences hold at the moment; what several share counts once.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.layout.bytes_in_use()
    }

    /// Keeps the KV cache of the prompts used last, at most this number of bytes of it, for prompts that begin
    /// with the same tokens: a [`Batch`](crate::Batch) computes only the rest of such a prompt. No bit of its
    /// logits depends on that. 0, which is the default, gives everything back and keeps nothing.
    pub fn keep_prefixes(&self, bytes: usize) {
        self.kept.store(bytes, Ordering::Relaxed);
        self.prefixes().limit_to(bytes);
    }

    /// Bytes of the KV cache that are kept for prompts to come, and the most that may be.
    #[must_use]
    pub fn kept_prefixes(&self) -> (usize, usize) {
        let prefixes = self.prefixes();
        (prefixes.bytes(), prefixes.limit())
    }

    /// Workspaces that are not in use.
    pub(crate) fn idle(&self) -> &Idle {
        &self.idle
    }

    /// The lock, even after a panic: what it guards is consistent between any two statements.
    pub(crate) fn prefixes(&self) -> MutexGuard<'_, Prefixes> {
        let prefixes = self.prefixes.get_or_make(|| {
            let mut prefixes = Prefixes::default();
            prefixes.limit_to(self.kept.load(Ordering::Relaxed));
            Mutex::new(prefixes)
        });
        prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all weights once and computes almost nothing: no step can be faster than this.
    #[must_use]
    pub fn read_once(&self) -> u32 {
        let mut session = Pool::global().session(self.threads);
        sweep(self.level, &mut session, self.weights.lines())
    }

    /// A sequence without tokens.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        Sequence::new(Arc::clone(&self.layout))
    }

    /// Appends `tokens[i]` to sequence i, and writes the wanted logits in the order of the sequences,
    /// `vocab_size` floats each.
    ///
    /// A sequence's logits depend on its tokens alone: they are the same bits in any batch, in one pass or
    /// token by token, on any number of threads and any instruction set.
    ///
    /// # Errors
    /// Before any work: for a sequence that is empty, too long, or has an unknown token, or for memory that
    /// the system refuses.
    ///
    /// # Panics
    /// If `logits` has another size, or a sequence belongs to a model of another shape.
    pub fn forward(
        &self,
        sequences: &mut [Sequence],
        tokens: &[&[u32]],
        wanted: Wanted,
        workspace: &mut Workspace,
        logits: &mut [f32],
    ) -> Result<()> {
        self.check(sequences, tokens)?;
        let count = match wanted {
            Wanted::Last => tokens.len(),
            Wanted::All => tokens.iter().map(|tokens| tokens.len()).sum(),
        };
        assert_eq!(logits.len(), count * self.config.vocab_size());
        let mut session = Pool::global().session(self.threads);
        let count = |i: usize| tokens[i].len();
        let mut sequences = Reserved::new(sequences, count, PASS, &self.layout, &mut session)?;
        let mut run = Run {
            level: self.level,
            session,
            weights: &self.weights,
            converted: &mut workspace.converted,
        };
        let rows = &mut workspace.rows;
        // The first pass is as long as any, so a refusal comes before anything is written.
        let most = tokens.iter().map(|tokens| tokens.len()).sum::<usize>().min(PASS);
        run.converted.reserve(self.level, most, self.weights.widest())?;
        let mut logits = logits;
        let (mut sequence, mut done) = (0, 0);
        while sequence < tokens.len() {
            rows.clear();
            let mut wanted_rows = Vec::new();
            while sequence < tokens.len() && rows.len() < PASS {
                let first = rows.len();
                let part = &tokens[sequence][done..];
                let part = &part[..part.len().min(PASS - first)];
                rows.push(sequence, sequences[sequence].len(), part);
                sequences.open(sequence, part.len());
                done += part.len();
                let whole = done == tokens[sequence].len();
                match wanted {
                    Wanted::All => wanted_rows.extend(first..rows.len()),
                    Wanted::Last if whole => wanted_rows.push(rows.len() - 1),
                    Wanted::Last => {}
                }
                if whole {
                    (sequence, done) = (sequence + 1, 0);
                }
            }
            let (now, later) = logits.split_at_mut(wanted_rows.len() * self.config.vocab_size());
            let pass = Pass {
                run: &mut run,
                sequences: &mut sequences,
                rows,
                wanted: &wanted_rows,
                buffers: &mut workspace.buffers,
            };
            self.network.forward(pass, now)?;
            logits = later;
            for segment in rows.segments() {
                sequences.advance(segment.sequence, segment.count);
            }
        }
        Ok(())
    }

    fn check(&self, sequences: &[Sequence], tokens: &[&[u32]]) -> Result<()> {
        if sequences.len() != tokens.len() {
            let (got, sequences) = (tokens.len(), sequences.len());
            return Err(Error::Length { name: "tokens", got, sequences });
        }
        let (size, context) = (self.config.vocab_size(), self.config.context());
        for (index, (sequence, tokens)) in sequences.iter().zip(tokens).enumerate() {
            if tokens.is_empty() {
                return Err(Error::Empty { index });
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= size) {
                return Err(Error::Token { index, token: i64::from(token), size });
            }
            let length = sequence.len() + tokens.len();
            if length > context {
                return Err(Error::Context { index, length, context });
            }
        }
        Ok(())
    }
}
