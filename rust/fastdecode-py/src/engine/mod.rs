//! The native engine in Python: a model, and a batch of sequences in progress.

mod gguf;
mod packed;

pub use gguf::GgufFile;
pub use packed::{PackedBytes, PackedFile};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastdecode_engine::{
    Batch, CacheFormat, Config, Elements, Error, Format, Model, Result, Sequence, Storage, Tensor,
    Tensors, Wanted, Workspace,
};
use fastdecode_simd::memory;
use half::f16;
use numpy::{
    Element, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, Given, cut, wrong_type};
use crate::errors::{Named, detached, exception};

/// A language model on the CPU, whose logits are the same bits in any batch.
///
/// The logits of a sequence depend on its tokens alone: not on the batch, the threads or the
/// instruction set. The environment variables FASTDECODE_THREADS and FASTDECODE_LEVEL (portable,
/// neon, avx2, avx512) choose the latter two.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct NativeModel {
    model: Arc<Model>,
}

#[pymethods]
impl NativeModel {
    /// From a folder with `config.json` and `model.safetensors`.
    ///
    /// Parameters
    /// ----------
    /// path : str or path
    /// dtype : str
    ///     The number format of the weights in memory: "float32", "bfloat16", "bfloat16_weights", "int8" or
    ///     "int4".
    /// kv_cache_dtype : str
    ///     The number format of keys and values in the KV cache: "float32", "bfloat16" or "int8".
    ///
    /// Raises
    /// ------
    /// FileNotFoundError
    ///     If a file is missing; another OSError if it cannot be read.
    /// ValueError
    ///     If a file is damaged or of another kind of model, or a format is unknown.
    /// MemoryError
    ///     If the system refuses memory for the weights.
    #[staticmethod]
    #[pyo3(
        signature = (path, dtype=Given::DEFAULT, kv_cache_dtype=Given::DEFAULT),
        text_signature = "(path, dtype='float32', kv_cache_dtype='float32')",
    )]
    fn from_folder(
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        dtype: Given<'_, '_>,
        kv_cache_dtype: Given<'_, '_>,
    ) -> PyResult<Self> {
        let path: PathBuf = arguments::read(path, "path")?;
        let (format, cache) = (format_of(dtype)?, cache_format_of(kv_cache_dtype)?);
        let model = detached(py, || Model::from_folder(&path, format))?;
        Ok(Self { model: Arc::new(model.with_cache(cache)) })
    }

    /// From a GGUF file.
    ///
    /// Parameters
    /// ----------
    /// file : GgufFile, str or path
    ///     The file, or where it is.
    /// dtype : str
    ///     The number format of the weights in memory. "gguf" keeps them as they are in the file where the
    ///     engine has a format for them. "float32" and "bfloat16" convert all weights; "int8" and "int4" those
    ///     that are not in the file with as few bits.
    /// kv_cache_dtype : str
    ///     The number format of keys and values in the KV cache: "float32", "bfloat16" or "int8".
    ///
    /// Raises
    /// ------
    /// FileNotFoundError
    ///     If there is no such file; another OSError if it cannot be read.
    /// ValueError
    ///     If the file is damaged, its model is none that the engine runs, or a format is unknown; or if
    ///     an open file has been written to since.
    /// MemoryError
    ///     If the system refuses memory for the weights.
    #[staticmethod]
    #[pyo3(
        signature = (file, dtype=Given::DEFAULT, kv_cache_dtype=Given::DEFAULT),
        text_signature = "(file, dtype='gguf', kv_cache_dtype='float32')",
    )]
    fn from_gguf(
        py: Python<'_>,
        file: &Bound<'_, PyAny>,
        dtype: Given<'_, '_>,
        kv_cache_dtype: Given<'_, '_>,
    ) -> PyResult<Self> {
        let cache = cache_format_of(kv_cache_dtype)?;
        let name = cut(dtype.or("dtype", Storage::AsInFile.name().to_owned())?);
        let storage = Storage::of_gguf(&name).map_err(exception)?;
        let model = if let Ok(file) = file.cast::<GgufFile>() {
            let file = file.get();
            detached(py, || Model::from_open_gguf(file.model(), storage))?
        } else {
            let path: PathBuf = arguments::read(file, "file")?;
            detached(py, || Model::from_gguf(&path, storage))?
        };
        Ok(Self { model: Arc::new(model.with_cache(cache)) })
    }

    /// From arrays by name. Their values are copied once, into the layout that the engine reads.
    ///
    /// Parameters
    /// ----------
    /// config : str
    ///     The text of transformers' `config.json`.
    /// tensors : dict of str to array
    ///     C-contiguous; float32, float16, or uint16 for the bits of bfloat16.
    /// dtype : str
    ///     The number format of the weights in memory: "float32", "bfloat16", "bfloat16_weights", "int8" or
    ///     "int4".
    /// kv_cache_dtype : str
    ///     The number format of keys and values in the KV cache: "float32", "bfloat16" or "int8".
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If tensors are missing, have another shape or are not C-contiguous, the configuration is of
    ///     another kind of model, or a format is unknown.
    /// MemoryError
    ///     If the system refuses memory for the weights.
    #[staticmethod]
    #[pyo3(
        signature = (config, tensors, dtype=Given::DEFAULT, kv_cache_dtype=Given::DEFAULT),
        text_signature = "(config, tensors, dtype='float32', kv_cache_dtype='float32')",
    )]
    fn from_arrays(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        tensors: &Bound<'_, PyAny>,
        dtype: Given<'_, '_>,
        kv_cache_dtype: Given<'_, '_>,
    ) -> PyResult<Self> {
        let config: String = arguments::read(config, "config")?;
        let (format, cache) = (format_of(dtype)?, cache_format_of(kv_cache_dtype)?);
        let config =
            Config::from_json(config.as_bytes(), Path::new("config")).map_err(exception)?;
        let tensors = tensors
            .cast::<PyDict>()
            .map_err(|_| wrong_type(tensors, "tensors", "a dict of names and arrays"))?;
        let arrays = tensors
            .iter()
            .map(|(name, array)| {
                let name: String = arguments::read(&name, "a name in tensors")?;
                let array = Array::new(&name, &array)?;
                Ok((name, array))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let mut tensors = Tensors::default();
        for (name, array) in &arrays {
            tensors.insert(name, array.tensor()?);
        }
        let model = detached(py, || Model::new(config, &tensors, format))?;
        Ok(Self { model: Arc::new(model.with_cache(cache)) })
    }

    /// From a packed file; its weights are read as they are.
    ///
    /// Parameters
    /// ----------
    /// file : PackedFile, str or path
    ///     The file, or where it is.
    /// kv_cache_dtype : str
    ///     The number format of keys and values in the KV cache: "float32", "bfloat16" or "int8".
    ///
    /// Raises
    /// ------
    /// FileNotFoundError
    ///     If there is no such file; another OSError if it cannot be read.
    /// ValueError
    ///     If it is no packed file that this version can use, or an open one has been written to since.
    /// MemoryError
    ///     If the system refuses memory for the weights.
    #[staticmethod]
    #[pyo3(
        signature = (file, kv_cache_dtype=Given::DEFAULT),
        text_signature = "(file, kv_cache_dtype='float32')",
    )]
    fn from_packed(
        py: Python<'_>,
        file: &Bound<'_, PyAny>,
        kv_cache_dtype: Given<'_, '_>,
    ) -> PyResult<Self> {
        let cache = cache_format_of(kv_cache_dtype)?;
        let model = if let Ok(file) = file.cast::<PackedFile>() {
            let file = file.get();
            detached(py, || Model::from_packed(file.file()))?
        } else {
            let path: PathBuf = arguments::read(file, "file")?;
            detached(py, || Model::from_packed(&fastdecode_engine::PackedFile::open(&path)?))?
        };
        Ok(Self { model: Arc::new(model.with_cache(cache)) })
    }

    /// The bytes of a packed file of the model, from which `from_packed` reads it again.
    ///
    /// Parameters
    /// ----------
    /// files : dict of str to bytes
    ///     The files that travel with it, among them the `config.json` that it was made of.
    /// source : str
    ///     What it was made of, for whoever reads the file.
    ///
    /// Returns
    /// -------
    /// iterator of bytes
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If there is no `config.json`, or a name cannot be that of a file in a folder.
    fn pack(&self, files: &Bound<'_, PyAny>, source: &Bound<'_, PyAny>) -> PyResult<PackedBytes> {
        PackedBytes::new(&self.model, files, source)
    }

    /// The number of the definition of a number format, "int8/1".
    ///
    /// Parameters
    /// ----------
    /// dtype : str
    /// gguf : bool
    ///     Whether it is that of a model in a GGUF file.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If `dtype` is unknown.
    #[staticmethod]
    #[pyo3(
        signature = (dtype=Given::DEFAULT, gguf=Given::DEFAULT),
        text_signature = "(dtype='float32', gguf=False)"
    )]
    fn definition_of(dtype: Given<'_, '_>, gguf: Given<'_, '_>) -> PyResult<&'static str> {
        if gguf.or("gguf", false)? {
            let name = cut(dtype.or("dtype", "float32".to_owned())?);
            return Ok(Storage::of_gguf(&name).map_err(exception)?.definition());
        }
        Ok(format_of(dtype)?.definition())
    }

    /// Check whether the engine runs the models of a configuration.
    ///
    /// Parameters
    /// ----------
    /// config : str
    ///     The text of transformers' `config.json`.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If it does not; the message names the field.
    #[staticmethod]
    fn check(config: &Bound<'_, PyAny>) -> PyResult<()> {
        let config: String = arguments::read(config, "config")?;
        Config::from_json(config.as_bytes(), Path::new("config")).map_err(exception)?;
        Ok(())
    }

    /// The width of a row of logits.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.model.config().vocab_size()
    }

    /// The most tokens of a sequence.
    #[getter]
    fn context(&self) -> usize {
        self.model.config().context()
    }

    /// Memory of one token of one sequence in the KV cache, in bytes. Layers with a window give those of a
    /// token back once it is out of reach.
    #[getter]
    fn bytes_per_token(&self) -> usize {
        self.model.bytes_per_token()
    }

    /// Memory that all sequences of the model hold in the KV cache at the moment, in bytes. What sequences
    /// share counts once.
    #[getter]
    fn cache_nbytes(&self) -> usize {
        self.model.cache_bytes()
    }

    /// Memory of the weights, in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.model.bytes()
    }

    /// The number format of the weights in memory, one of those of `from_folder`, or "gguf" where they are
    /// stored as in the GGUF file.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.model.storage().name()
    }

    /// The number format of keys and values in the KV cache: "float32", "bfloat16" or "int8".
    #[getter]
    fn kv_cache_dtype(&self) -> &'static str {
        self.model.cache_format().name()
    }

    /// The number of the format's definition, "int8/1", and that of the KV cache's where that is not float32,
    /// "int8/1, KV cache int8/1". Where it is the same, so are the logits of the same weights and tokens, to
    /// the last bit.
    #[getter]
    fn definition(&self) -> String {
        self.model.definition()
    }

    /// The most threads that it runs on.
    #[getter]
    fn threads(&self) -> usize {
        self.model.threads()
    }

    /// The instruction set that it runs on: "portable", "neon", "avx2" or "avx512".
    #[getter]
    fn level(&self) -> &'static str {
        self.model.level().name()
    }

    /// Read all weights once and do nothing with them: a step cannot be faster than that.
    ///
    /// Returns
    /// -------
    /// float
    ///     The time it took, in seconds.
    fn read_seconds(&self, py: Python<'_>) -> f64 {
        py.detach(|| {
            let begun = std::time::Instant::now();
            std::hint::black_box(self.model.read_once());
            begun.elapsed().as_secs_f64()
        })
    }

    /// Keep the KV cache of the prompts used last, for prompts that begin with the same tokens.
    ///
    /// Only the rest of such a prompt is then computed. No bit of its logits depends on that. A forked
    /// process starts without any.
    ///
    /// Parameters
    /// ----------
    /// bytes : int
    ///     The most bytes to keep; what several prompts share counts for each of them. 0 keeps nothing, and
    ///     gives back what is kept.
    fn keep_prefixes(&self, py: Python<'_>, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes: usize = arguments::read(bytes, "bytes")?;
        py.detach(|| self.model.keep_prefixes(bytes));
        Ok(())
    }

    /// Bytes of the KV cache that are kept for prompts that begin alike; see `keep_prefixes`.
    #[getter]
    fn prefix_nbytes(&self) -> usize {
        self.model.kept_prefixes().0
    }

    /// An empty batch.
    fn rows(&self) -> NativeRows {
        let batch = Batch::new(Arc::clone(&self.model));
        NativeRows { batch, model: Arc::clone(&self.model), given: None }
    }

    /// The next-token logits after each token of a sequence.
    ///
    /// Parameters
    /// ----------
    /// tokens : sequence of int
    ///
    /// Returns
    /// -------
    /// float32 array, (tokens, vocab)
    fn all_logits<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let tokens: Vec<i64> = arguments::read(tokens, "tokens")?;
        let name = |_| "tokens".to_owned();
        let tokens = ids(0, &tokens, self.vocab_size(), name)?;
        let array = zeros(py, [tokens.len(), self.vocab_size()])?;
        fill(&array, name, |logits| {
            let mut sequence = [self.model.sequence()];
            let mut workspace = Workspace::default();
            self.model.forward(&mut sequence, &[&tokens], Wanted::All, &mut workspace, logits)
        })?;
        Ok(array)
    }
}

/// The sequences of a batch in a `NativeModel`, with their KV cache.
#[pyclass(module = "fastdecode._core")]
pub struct NativeRows {
    batch: Batch,
    model: Arc<Model>,
    /// The array that the last step returned. Once nobody else holds it, the next step writes there,
    /// because the pages of a new array must be mapped and cleared.
    given: Option<Py<PyArray2<f32>>>,
}

#[pymethods]
impl NativeRows {
    fn __len__(&self) -> usize {
        self.batch.len()
    }

    /// Add sequences after the present ones: prompt i goes through the model once and becomes
    /// `repeats[i]` sequences, which share its cache.
    ///
    /// Parameters
    /// ----------
    /// prompts : sequence of sequences of int
    /// repeats : sequence of int
    ///
    /// Returns
    /// -------
    /// float32 array, (new sequences, vocab)
    fn join<'py>(
        &mut self,
        py: Python<'py>,
        prompts: &Bound<'py, PyAny>,
        repeats: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let size = self.model.config().vocab_size();
        let prompts: Vec<Vec<i64>> = arguments::read(prompts, "prompts")?;
        let repeats: Vec<usize> = arguments::read(repeats, "repeats")?;
        let name = |row| format!("prompts[{row}]");
        let prompts = prompts
            .iter()
            .enumerate()
            .map(|(row, prompt)| ids(row, prompt, size, name))
            .collect::<PyResult<Vec<_>>>()?;
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let rows = repeats.iter().fold(0usize, |sum, &count| sum.saturating_add(count));
        let array = zeros(py, [rows, size])?;
        fill(&array, name, |logits| self.batch.join(&prompts, &repeats, logits))?;
        Ok(array)
    }

    /// Append one token to each sequence.
    ///
    /// Parameters
    /// ----------
    /// tokens : int64 array, (sequences,)
    ///
    /// Returns
    /// -------
    /// float32 array, (sequences, vocab)
    fn step<'py>(
        &mut self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let size = self.model.config().vocab_size();
        let given: Vec<i64> = arguments::read(tokens, "tokens")?;
        let name = |row| format!("tokens[{row}]");
        let mut tokens = memory::with_room(given.len()).map_err(exception)?;
        for (row, token) in given.iter().enumerate() {
            tokens.extend(ids(row, &[*token], size, name)?);
        }
        if tokens.len() != self.batch.len() {
            let (got, sequences) = (tokens.len(), self.batch.len());
            return Err(exception(Error::Length { name: "tokens", got, sequences }));
        }
        let to = self.room(py, [tokens.len(), size])?;
        fill(&to, name, |logits| self.batch.step(&tokens, logits))?;
        self.given = Some(to.clone().unbind());
        Ok(to)
    }

    /// Continue with the sequences at these indices, in this order; an index may be given several
    /// times.
    ///
    /// Parameters
    /// ----------
    /// rows : int64 array
    ///
    /// Raises
    /// ------
    /// IndexError
    ///     If there is no such sequence.
    fn keep(&mut self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let rows: Vec<i64> = arguments::read(rows, "rows")?;
        self.batch.keep(&rows).map_err(exception)
    }

    /// Cut sequences back to their first tokens. What they then go on with gives the same bits as after a
    /// prompt of these tokens.
    ///
    /// Memory of the cache that no sequence needs any more is given back. Layers with a window (sliding or
    /// local attention) keep what the next token attends to and the 32 positions before that, so a sequence can
    /// be cut back to 32 tokens below the greatest length that it has had, and to 0; models without windows
    /// allow every length.
    ///
    /// Parameters
    /// ----------
    /// lengths : int64 array, (sequences,)
    ///     Tokens that remain of each sequence; its own length leaves it as it is.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If a length is negative or greater than that of its sequence, layers with a window no longer
    ///     have what it needs, or the number of lengths is not that of the sequences. All sequences are
    ///     then unchanged.
    fn truncate(&mut self, lengths: &Bound<'_, PyAny>) -> PyResult<()> {
        let lengths: Vec<i64> = arguments::read(lengths, "lengths")?;
        self.batch.truncate(&lengths).map_err(exception)
    }

    /// The number of tokens of each sequence.
    #[getter]
    fn lengths(&self) -> Vec<usize> {
        self.batch.sequences().iter().map(Sequence::len).collect()
    }
}

impl NativeRows {
    /// An array for a step's logits that nobody else holds.
    fn room<'py>(
        &mut self,
        py: Python<'py>,
        shape: [usize; 2],
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let given = self.given.take().map(|given| given.into_bound(py));
        // SAFETY: the object is alive, and the GIL is held.
        let alone = |array: &Bound<'_, _>| unsafe { pyo3::ffi::Py_REFCNT(array.as_ptr()) == 1 };
        match given.filter(|given| alone(given) && given.dims() == shape) {
            Some(given) => Ok(given),
            None => zeros(py, shape),
        }
    }
}

/// Whether the processor's instruction for products of bfloat16 agrees with fused multiply-adds, to the bit.
///
/// Only then does the native engine use it; results are the same with and without it.
///
/// Returns
/// -------
/// bool or None
///     None if the processor has no such instruction.
#[pyfunction]
pub fn bfloat16_instruction() -> Option<bool> {
    fastdecode_engine::bfloat16_instruction()
}

/// The format of weights that an argument names.
fn format_of(dtype: Given<'_, '_>) -> PyResult<Format> {
    // No format has a name that is cut, and the message has it.
    cut(dtype.or("dtype", "float32".to_owned())?).parse().map_err(exception)
}

/// The format of the KV cache that an argument names.
fn cache_format_of(dtype: Given<'_, '_>) -> PyResult<CacheFormat> {
    cut(dtype.or("kv_cache_dtype", "float32".to_owned())?).parse().map_err(exception)
}

/// An array of zeros. NumPy's own function raises `MemoryError` where the binding's would panic.
fn zeros(py: Python<'_>, shape: [usize; 2]) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let [rows, columns] = shape;
    let bytes = rows.saturating_mul(columns).saturating_mul(size_of::<f32>());
    memory::admit(bytes).map_err(exception)?;
    let array = py.import("numpy")?.call_method1("zeros", ((rows, columns), "float32"))?;
    Ok(array.cast_into()?)
}

/// Fills an array without the GIL.
fn fill(
    array: &Bound<'_, PyArray2<f32>>,
    name: impl Fn(usize) -> String + Send,
    work: impl Send + FnOnce(&mut [f32]) -> Result<()>,
) -> PyResult<()> {
    let mut view = array.try_readwrite()?;
    let logits = view.as_slice_mut()?;
    detached(array.py(), || work(logits).map_err(|error| Named(error, name)))
}

/// Token ids that may be negative as the engine's.
fn ids(
    index: usize,
    tokens: &[i64],
    size: usize,
    name: impl Fn(usize) -> String,
) -> PyResult<Vec<u32>> {
    let id = |&token: &i64| u32::try_from(token).map_err(|_| Error::Token { index, token, size });
    let mut ids = memory::with_room(tokens.len()).map_err(exception)?;
    for token in tokens {
        ids.push(id(token).map_err(|error| exception(Named(error, &name)))?);
    }
    Ok(ids)
}

/// A weight, borrowed from Python.
enum Array<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    BF16(PyReadonlyArrayDyn<'py, u16>),
}

impl<'py> Array<'py> {
    fn new(name: &str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = array.cast::<PyArrayDyn<f32>>() {
            return Ok(Self::F32(in_c_order(name, array)?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<f16>>() {
            return Ok(Self::F16(in_c_order(name, array)?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<u16>>() {
            return Ok(Self::BF16(in_c_order(name, array)?));
        }
        let kind = match array.getattr("dtype") {
            Ok(dtype) => dtype.str()?,
            Err(_) => array.get_type().name()?,
        };
        Err(PyTypeError::new_err(format!(
            "tensors[{name:?}] must be float32, float16, or uint16 for the bits of bfloat16, got \
             {kind}"
        )))
    }

    fn tensor(&self) -> PyResult<Tensor<'_>> {
        let (shape, elements) = match self {
            Self::F32(array) => (array.shape(), Elements::F32(array.as_slice()?)),
            Self::F16(array) => (array.shape(), Elements::F16(array.as_slice()?)),
            Self::BF16(array) => (array.shape(), Elements::BF16(array.as_slice()?)),
        };
        Ok(Tensor { shape: shape.to_vec(), elements })
    }
}

/// Borrows an array whose elements lie in C order: `as_slice` alone would also accept Fortran order,
/// in which they mean another matrix.
fn in_c_order<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyArrayDyn<T>>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    if array.is_c_contiguous() && array.is_aligned() {
        return Ok(array.try_readonly()?);
    }
    Err(PyValueError::new_err(format!(
        "tensors[{name:?}] is not C-contiguous; give numpy.ascontiguousarray of it"
    )))
}
