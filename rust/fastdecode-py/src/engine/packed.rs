//! Packed files in Python.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastdecode_engine::{Model, PackedFile as Packed};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arguments::{self, wrong_type};
use crate::errors::{detached, objects};

/// A packed file: a model as the native engine reads it, and the files that travel with it.
///
/// The header is read and checked when the file is opened; the rest is read when it is asked for. The file
/// stays open for as long as the object lives.
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
///     If it is no packed file that this version can use. The message says how to make it again.
/// MemoryError
///     If the system refuses memory for the header, which is never more than the size of the file.
#[pyclass(frozen, module = "fastdecode._core")]
pub struct PackedFile {
    file: Packed,
}

#[pymethods]
impl PackedFile {
    /// The version of the layout of packed files.
    #[classattr]
    const LAYOUT: u32 = fastdecode_engine::LAYOUT;

    #[new]
    fn new(py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<Self> {
        let path: PathBuf = arguments::read(path, "path")?;
        let file = detached(py, || Packed::open(&path))?;
        Ok(Self { file })
    }

    /// Where it is, as it was given.
    #[getter]
    fn path(&self) -> &Path {
        self.file.path()
    }

    /// The size of the file in bytes.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.file.length()
    }

    /// The number format of its weights; see `NativeModel.dtype`.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.file.storage().name()
    }

    /// The number of the format's definition, "int8/1".
    #[getter]
    fn definition(&self) -> &'static str {
        self.file.storage().definition()
    }

    /// What the model was packed from, as whoever packed it has put it.
    #[getter]
    fn source(&self) -> &str {
        self.file.source()
    }

    /// The names of the files within it.
    #[getter]
    fn names(&self) -> Vec<&str> {
        self.file.names().collect()
    }

    /// The contents of a file within it.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///     One of `names`.
    ///
    /// Returns
    /// -------
    /// bytes
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If there is none of this name, or its checksum is another one.
    /// OSError
    ///     If the file cannot be read, or has become shorter.
    fn read<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let name: String = arguments::read(name, "name")?;
        let bytes = detached(py, || self.file.read(&name))?;
        objects(py, || Ok(PyBytes::new(py, &bytes)))
    }

    /// Read everything, and compare it with the checksums.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If something is damaged; the message names the part.
    /// OSError
    ///     If the file cannot be read.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.file.check())
    }
}

impl PackedFile {
    /// The open file.
    pub fn file(&self) -> &Packed {
        &self.file
    }
}

/// The bytes of a packed file, in pieces: an iterator.
#[pyclass(module = "fastdecode._core")]
pub struct PackedBytes {
    model: Arc<Model>,
    /// What is before the weights, until it has been given out.
    head: Option<Vec<u8>>,
    /// Bytes of the weights that have been given out.
    done: usize,
}

/// Bytes of the weights in a piece.
const PIECE: usize = 8 << 20;

impl PackedBytes {
    /// The file of a model; see `NativeModel.pack`.
    pub fn new(
        model: &Arc<Model>,
        files: &Bound<'_, PyAny>,
        source: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let source: String = arguments::read(source, "source")?;
        let dict = files
            .cast::<PyDict>()
            .map_err(|_| wrong_type(files, "files", "a dict of names and bytes"))?;
        let mut files = Vec::new();
        for (name, bytes) in dict.iter() {
            let name: String = arguments::read(&name, "a name in files")?;
            let wrong = |_| wrong_type(&bytes, format_args!("files[{name:?}]"), "bytes");
            let bytes = bytes.cast::<PyBytes>().map_err(wrong)?.clone();
            files.push((name, bytes));
        }
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (&**name, bytes.as_bytes())).collect();
        let head = detached(dict.py(), || model.pack(&source, &files).map(|file| file.head))?;
        Ok(Self { model: Arc::clone(model), head: Some(head), done: 0 })
    }
}

#[pymethods]
impl PackedBytes {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if let Some(head) = self.head.take() {
            return objects(py, || Ok(Some(PyBytes::new(py, &head))));
        }
        let weights = self.model.weights_as_bytes();
        let piece = &weights[self.done..weights.len().min(self.done + PIECE)];
        self.done += piece.len();
        if piece.is_empty() {
            return Ok(None);
        }
        objects(py, || Ok(Some(PyBytes::new(py, piece))))
    }
}
