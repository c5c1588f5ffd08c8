//! The native engine in Python: a model, and a batch of sequences in progress.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastdecode_engine::{
    Batch, Config, Elements, Error, Format, Model, Result, Tensor, Tensors, Wanted, Workspace,
};
use half::f16;
use numpy::{
    PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn refusal(error: &Error) -> PyErr {
    match error {
        Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// A GPT-2 on the CPU, whose logits are the same bits in any batch.
///
/// The logits of a sequence depend on its tokens alone: not on the batch, the threads or the instruction
/// set. The environment variables FASTDECODE_THREADS and FASTDECODE_LEVEL (portable, neon, avx2, avx512)
/// choose the latter two.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct NativeGpt2 {
    model: Arc<Model>,
}

#[pymethods]
impl NativeGpt2 {
    /// From a folder with `config.json` and `model.safetensors`.
    ///
    /// Parameters
    /// ----------
    /// path : str or path
    /// dtype : str
    ///     The number format of the weights in memory: "float32", "bfloat16" or "int8".
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If a file is missing, damaged, or of another kind of model, or `dtype` is unknown.
    /// MemoryError
    ///     If the system refuses memory for the weights.
    #[staticmethod]
    #[pyo3(signature = (path, dtype = "float32"))]
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn from_folder(py: Python<'_>, path: PathBuf, dtype: &str) -> PyResult<Self> {
        let format: Format = dtype.parse().map_err(|e| refusal(&e))?;
        let model = py.detach(|| Model::from_folder(&path, format)).map_err(|e| refusal(&e))?;
        Ok(Self { model: Arc::new(model) })
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
    ///     The number format of the weights in memory: "float32", "bfloat16" or "int8".
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If tensors are missing or have another shape, the configuration is of another kind of model, or
    ///     `dtype` is unknown.
    /// MemoryError
    ///     If the system refuses memory for the weights.
    #[staticmethod]
    #[pyo3(signature = (config, tensors, dtype = "float32"))]
    fn from_arrays(
        py: Python<'_>,
        config: &str,
        tensors: &Bound<'_, PyDict>,
        dtype: &str,
    ) -> PyResult<Self> {
        let format: Format = dtype.parse().map_err(|e| refusal(&e))?;
        let config = Config::from_json(config.as_bytes(), Path::new("config"))
            .map_err(|error| refusal(&error))?;
        let arrays = tensors
            .iter()
            .map(|(name, array)| Ok((name.extract::<String>()?, Array::new(&array)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let mut tensors = Tensors::default();
        for (name, array) in &arrays {
            tensors.insert(name, array.tensor()?);
        }
        let model = py.detach(|| Model::new(config, &tensors, format)).map_err(|e| refusal(&e))?;
        Ok(Self { model: Arc::new(model) })
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

    /// Memory of one token of one sequence in the KV cache, in bytes.
    #[getter]
    fn bytes_per_token(&self) -> usize {
        self.model.bytes_per_token()
    }

    /// Memory of the weights, in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.model.bytes()
    }

    /// The number format of the weights in memory: "float32", "bfloat16" or "int8".
    #[getter]
    fn dtype(&self) -> &'static str {
        self.model.format().name()
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
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn all_logits<'py>(
        &self,
        py: Python<'py>,
        tokens: Vec<i64>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let tokens = ids(0, &tokens, self.vocab_size())?;
        filled(py, [tokens.len(), self.vocab_size()], |logits| {
            let mut sequence = [self.model.sequence()];
            let mut workspace = Workspace::default();
            self.model.forward(&mut sequence, &[&tokens], Wanted::All, &mut workspace, logits)
        })
    }
}

/// The sequences of a batch in a `NativeGpt2`, with their KV cache.
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

    /// Add sequences after the present ones: prompt i goes through the model once and becomes `repeats[i]`
    /// sequences, which share its cache.
    ///
    /// Parameters
    /// ----------
    /// prompts : sequence of sequences of int
    /// repeats : sequence of int
    ///
    /// Returns
    /// -------
    /// float32 array, (new sequences, vocab)
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn join<'py>(
        &mut self,
        py: Python<'py>,
        prompts: Vec<Vec<i64>>,
        repeats: Vec<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let size = self.model.config().vocab_size();
        let prompts = prompts
            .iter()
            .enumerate()
            .map(|(row, prompt)| ids(row, prompt, size))
            .collect::<PyResult<Vec<_>>>()?;
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        filled(py, [repeats.iter().sum(), size], |logits| {
            self.batch.join(&prompts, &repeats, logits)
        })
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
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn step<'py>(
        &mut self,
        py: Python<'py>,
        tokens: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let size = self.model.config().vocab_size();
        let rows = tokens.len();
        let given = tokens.as_array();
        let mut tokens = Vec::with_capacity(rows);
        for (row, token) in given.iter().enumerate() {
            tokens.extend(ids(row, &[*token], size)?);
        }
        if rows != self.batch.len() {
            let (got, sequences) = (rows, self.batch.len());
            return Err(refusal(&Error::Length { name: "tokens", got, sequences }));
        }
        let to = self.room(py, [rows, size]);
        fill(&to, |logits| self.batch.step(&tokens, logits))?;
        self.given = Some(to.clone().unbind());
        Ok(to)
    }

    /// Continue with the sequences at these indices, in this order; an index may be given several times.
    ///
    /// Parameters
    /// ----------
    /// rows : int64 array
    fn keep(&mut self, rows: &Bound<'_, PyArray1<i64>>) -> PyResult<()> {
        let rows: Vec<i64> = rows.try_readonly()?.as_array().iter().copied().collect();
        self.batch.keep(&rows).map_err(|error| refusal(&error))
    }
}

impl NativeRows {
    /// An array for a step's logits that nobody else holds.
    fn room<'py>(&mut self, py: Python<'py>, shape: [usize; 2]) -> Bound<'py, PyArray2<f32>> {
        let given = self.given.take().map(|given| given.into_bound(py));
        // SAFETY: the object is alive, and the GIL is held.
        let alone = |array: &Bound<'_, _>| unsafe { pyo3::ffi::Py_REFCNT(array.as_ptr()) == 1 };
        given
            .filter(|given| alone(given) && given.dims() == shape)
            .unwrap_or_else(|| PyArray2::zeros(py, shape, false))
    }
}

/// An array that `work` fills, without the GIL.
fn filled(
    py: Python<'_>,
    shape: [usize; 2],
    work: impl Send + FnOnce(&mut [f32]) -> Result<()>,
) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let array = PyArray2::zeros(py, shape, false);
    fill(&array, work)?;
    Ok(array)
}

fn fill(
    array: &Bound<'_, PyArray2<f32>>,
    work: impl Send + FnOnce(&mut [f32]) -> Result<()>,
) -> PyResult<()> {
    let mut view = array.try_readwrite()?;
    let logits = view.as_slice_mut()?;
    array.py().detach(|| work(logits)).map_err(|error| refusal(&error))
}

fn ids(index: usize, tokens: &[i64], size: usize) -> PyResult<Vec<u32>> {
    tokens
        .iter()
        .map(|&token| {
            u32::try_from(token).map_err(|_| refusal(&Error::Token { index, token, size }))
        })
        .collect()
}

/// A weight, borrowed from Python.
enum Array<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    BF16(PyReadonlyArrayDyn<'py, u16>),
}

impl<'py> Array<'py> {
    fn new(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = array.cast::<PyArrayDyn<f32>>() {
            return Ok(Self::F32(array.try_readonly()?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<f16>>() {
            return Ok(Self::F16(array.try_readonly()?));
        }
        if let Ok(array) = array.cast::<PyArrayDyn<u16>>() {
            return Ok(Self::BF16(array.try_readonly()?));
        }
        Err(PyTypeError::new_err(format!(
            "tensors must be float32, float16, or uint16 for bfloat16, got {}",
            array.get_type().name()?
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
