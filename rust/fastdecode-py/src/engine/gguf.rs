//! GGUF files in Python: metadata as plain values, tensors as arrays.

use std::path::{Path, PathBuf};

use fastdecode_engine::gguf::{self, Array, Value};
use fastdecode_engine::{Config, Error, GgufModel};
use numpy::{PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::arguments;
use crate::errors::{detached, exception, objects};

/// A GGUF file: its metadata, and its tensors as float32.
///
/// The header is read and checked when the file is opened; tensors are read when they are asked for.
/// The file stays open for as long as the object lives.
///
/// Parameters
/// ----------
/// path : str or path
///
/// Raises
/// ------
/// FileNotFoundError
///     If there is no such file; another OSError if it cannot be read.
/// ValueError
///     If it is no whole GGUF file. The message names the metadata key or the tensor, and the byte.
/// MemoryError
///     If the system refuses memory for the header, which is never more than the size of the file.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct GgufFile {
    model: GgufModel,
}

#[pymethods]
impl GgufFile {
    #[new]
    fn new(py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<Self> {
        let path: PathBuf = arguments::read(path, "path")?;
        let model = detached(py, || GgufModel::open(&path))?;
        Ok(Self { model })
    }

    /// Where it is, as it was given.
    #[getter]
    fn path(&self) -> &Path {
        self.model.path()
    }

    /// Check whether the native engine runs the model in the file; its weights are not read.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If it does not; the message says why.
    fn check(&self) -> PyResult<()> {
        Config::of_gguf(&self.model).map_err(exception)?;
        self.model.weights().map_err(exception)?;
        Ok(())
    }

    /// The version of the container: 2 or 3.
    #[getter]
    fn version(&self) -> u32 {
        self.model.gguf().version()
    }

    /// The size of the file in bytes.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.model.gguf().size()
    }

    /// The multiples of bytes at which tensors begin.
    #[getter]
    fn alignment(&self) -> u64 {
        self.model.gguf().alignment()
    }

    /// The metadata keys, in the order of their bytes.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        objects(py, || PyList::new(py, self.model.gguf().keys()))
    }

    fn __len__(&self) -> usize {
        self.model.gguf().keys().len()
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> bool {
        key.extract::<String>().is_ok_and(|key| self.model.gguf().get(&key).is_some())
    }

    /// The value of a metadata key.
    ///
    /// Parameters
    /// ----------
    /// key : str
    ///
    /// Returns
    /// -------
    /// int, float, bool, str or list
    ///     A float32 is widened exactly. An array is a list, and one of arrays a list of lists.
    ///
    /// Raises
    /// ------
    /// KeyError
    ///     If there is no such key.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name: String = arguments::read(key, "key")?;
        let value = self.model.gguf().get(&name);
        let value = value.ok_or_else(|| PyKeyError::new_err(name.clone()))?;
        objects(py, || plain(py, value))
    }

    /// The value of a metadata key, or `default` where there is no such key.
    ///
    /// Parameters
    /// ----------
    /// key : str
    /// default : object
    ///
    /// Returns
    /// -------
    /// int, float, bool, str, list, or `default`
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'_, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name: String = arguments::read(key, "key")?;
        match self.model.gguf().get(&name) {
            Some(value) => objects(py, || plain(py, value)),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    /// The tensors, in the order of their names' bytes.
    ///
    /// Returns
    /// -------
    /// list of (str, tuple of int, str)
    ///     Name, shape with the slowest dimension first, and ggml's name of how it is stored: "Q4_K".
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        objects(py, || {
            let found = PyList::empty(py);
            for info in self.model.gguf().tensors() {
                let shape = PyTuple::new(py, info.shape())?;
                found.append((info.name, shape, info.encoding.name()))?;
            }
            Ok(found)
        })
    }

    /// A tensor's elements, as they are in the file.
    ///
    /// Quantised ones are those of `gguf.quants.dequantize`, bit for bit.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///
    /// Returns
    /// -------
    /// float32 array
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If there is no such tensor, or it is stored in a way that is not read.
    /// OSError
    ///     If the file cannot be read, or has become shorter.
    fn tensor<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let name: String = arguments::read(name, "name")?;
        let info = self.model.gguf().tensor(&name).map_err(|error| self.failed(error))?;
        self.array(py, PyTuple::new(py, info.shape())?, |to| self.model.gguf().read(&info, 0, to))
    }

    /// The text of transformers' `config.json` for the model in the file.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If the native engine cannot run the model; the message says why.
    #[getter]
    fn config(&self) -> PyResult<String> {
        self.model.config().map_err(exception)
    }

    /// The weights as transformers' model has them.
    ///
    /// Returns
    /// -------
    /// dict of str to tuple of int
    ///     Shapes by name.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If a tensor has no place in the model, or is stored in a way that is not read.
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let weights = self.model.weights().map_err(exception)?;
        objects(py, || {
            let found = PyDict::new(py);
            for weight in &weights {
                found.set_item(&weight.name, PyTuple::new(py, &weight.shape)?)?;
            }
            Ok(found)
        })
    }

    /// A weight as transformers' model has it: its elements in the order there.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///     One of `weights`.
    ///
    /// Returns
    /// -------
    /// float32 array
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If there is none of that name, or as for `weights`.
    /// OSError
    ///     If the file cannot be read, or has become shorter.
    fn weight<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let name: String = arguments::read(name, "name")?;
        let weights = self.model.weights().map_err(exception)?;
        let found = weights.iter().find(|weight| weight.name == name);
        let missing = || self.failed(gguf::Error::MissingTensor { name: name.clone() });
        let weight = found.ok_or_else(missing)?;
        self.array(py, PyTuple::new(py, &weight.shape)?, |to| weight.read(0, to, &mut Vec::new()))
    }
}

impl GgufFile {
    /// The open file.
    pub fn model(&self) -> &GgufModel {
        &self.model
    }

    /// An array that `read` fills without the GIL.
    fn array<'py>(
        &self,
        py: Python<'py>,
        shape: Bound<'py, PyTuple>,
        read: impl Send + FnOnce(&mut [f32]) -> gguf::Result<()>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let array = py.import("numpy")?.call_method1("empty", (shape, "float32"))?;
        let array: Bound<'py, PyArrayDyn<f32>> = array.cast_into()?;
        {
            let mut view = array.try_readwrite()?;
            let to = view.as_slice_mut()?;
            detached(py, || read(to).map_err(|error| Error::gguf(error, self.model.path())))?;
        }
        Ok(array)
    }

    fn failed(&self, error: gguf::Error) -> PyErr {
        exception(Error::gguf(error, self.model.path()))
    }
}

/// A metadata value as Python's.
fn plain<'py>(py: Python<'py>, value: Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::U8(x) => x.into_pyobject(py)?.into_any(),
        Value::I8(x) => x.into_pyobject(py)?.into_any(),
        Value::U16(x) => x.into_pyobject(py)?.into_any(),
        Value::I16(x) => x.into_pyobject(py)?.into_any(),
        Value::U32(x) => x.into_pyobject(py)?.into_any(),
        Value::I32(x) => x.into_pyobject(py)?.into_any(),
        Value::U64(x) => x.into_pyobject(py)?.into_any(),
        Value::I64(x) => x.into_pyobject(py)?.into_any(),
        Value::F32(x) => f64::from(x).into_pyobject(py)?.into_any(),
        Value::F64(x) => x.into_pyobject(py)?.into_any(),
        Value::Bool(x) => x.into_pyobject(py)?.to_owned().into_any(),
        Value::String(x) => x.into_pyobject(py)?.into_any(),
        Value::Array(array) => list(py, array)?.into_any(),
    })
}

fn list<'py>(py: Python<'py>, array: Array<'_>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for value in array.iter() {
        list.append(plain(py, value)?)?;
    }
    Ok(list)
}
