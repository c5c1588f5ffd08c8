//! Logits from Python, borrowed if their rows are contiguous and copied otherwise.

use fastdecode_core::{Elements, Logits};
use half::f16;
use half::slice::HalfBitsSliceExt;
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray};
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{is_masked, wrong_type};

/// An array of logits, kept alive for the duration of a call.
pub struct Borrowed<'py> {
    array: Format<'py>,
    /// Whether the caller gave a single row, not a batch of one.
    pub single: bool,
}

enum Format<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    /// bfloat16 as its bits, because NumPy itself has no such type.
    BF16(PyReadonlyArrayDyn<'py, u16>),
}

impl<'py> Borrowed<'py> {
    /// From the argument `logits`.
    pub fn new(logits: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::named(logits, "logits")
    }

    /// From a NumPy array or a CPU torch tensor, `(vocab,)` or `(batch, vocab)`.
    pub fn named(logits: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        let (array, bits_of_bfloat16) = as_array(logits, name)?;
        if !matches!(array.ndim(), 1 | 2) {
            return Err(PyValueError::new_err(format!(
                "{name} must be (vocab,) or (batch, vocab), got shape {}",
                array.getattr("shape")?
            )));
        }
        let single = array.ndim() == 1;
        let any = array.as_any();
        let array = if bits_of_bfloat16 {
            Format::BF16(rows_contiguous(any)?)
        } else if any.cast::<PyArrayDyn<f32>>().is_ok() {
            Format::F32(rows_contiguous(any)?)
        } else if any.cast::<PyArrayDyn<f16>>().is_ok() {
            Format::F16(rows_contiguous(any)?)
        } else {
            return Err(PyTypeError::new_err(format!(
                "{name} must be float32, float16 or bfloat16, got {}; \
                 convert them with .astype(numpy.float32) or .float()",
                array.dtype()
            )));
        };
        Ok(Self { array, single })
    }

    /// The core's view of it.
    pub fn logits(&self) -> Logits<'_> {
        match &self.array {
            Format::F32(array) => view(array, Elements::F32),
            Format::F16(array) => view(array, Elements::F16),
            Format::BF16(array) => view(array, |bits| Elements::BF16(bits.reinterpret_cast())),
        }
    }
}

/// The NumPy array that shares the object's memory, and whether it holds bfloat16's bits.
fn as_array<'py>(
    logits: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<(Bound<'py, PyUntypedArray>, bool)> {
    let py = logits.py();
    if let Ok(array) = logits.cast::<PyUntypedArray>() {
        if is_masked(logits) {
            return Err(PyValueError::new_err(format!(
                "{name} are a masked array, and a mask is not read; give .filled(-numpy.inf) of it"
            )));
        }
        // ml_dtypes' bfloat16 is an extension type, which only its name identifies.
        let extension = array.dtype().kind() == b'V';
        if extension && array.dtype().typeobj().name()? == "bfloat16" {
            let bits = array.call_method1("view", ("uint16",))?;
            return Ok((bits.cast_into()?, true));
        }
        return Ok((array.clone(), false));
    }
    // Other classes have one of these, such as a file its `detach`.
    let (Some(_), Some(device), Some(layout)) = (
        logits.getattr_opt("detach")?,
        logits.getattr_opt("device")?,
        logits.getattr_opt("layout")?,
    ) else {
        return Err(wrong_type(logits, name, "a NumPy array or a torch tensor"));
    };
    let device = device.str()?.to_string();
    if device != "cpu" {
        return Err(PyValueError::new_err(format!(
            "{name} are on device {device}; the core reads the CPU's memory: call .cpu() first"
        )));
    }
    let layout = layout.str()?.to_string();
    if layout != "torch.strided" {
        return Err(PyValueError::new_err(format!(
            "{name} are a tensor with the layout {layout}; give .to_dense() of it"
        )));
    }
    let tensor = logits.call_method0("detach")?;
    let bfloat16 = tensor.getattr("dtype")?.str()? == "torch.bfloat16";
    let tensor = if bfloat16 {
        // A tensor exists, so torch is already imported: this does not load it.
        let bits = py.import("torch")?.getattr("uint16")?;
        tensor.call_method1("view", (bits,))?
    } else {
        tensor
    };
    Ok((tensor.call_method0("numpy")?.cast_into()?, bfloat16))
}

/// The array itself if each row is contiguous and no row starts before the one above it, otherwise a
/// copy in C order. Rows may overlap, as those of `numpy.broadcast_to` do: they are only read.
fn rows_contiguous<'py, T: Element>(
    array: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let typed = array.cast::<PyArrayDyn<T>>()?;
    let size = size_of::<T>().cast_signed();
    let last = typed.ndim() - 1;
    let (shape, strides) = (typed.shape(), typed.strides());
    let contiguous = strides[last] == size || shape[last] <= 1;
    let upwards = last == 0 || (strides[0] >= 0 && strides[0] % size == 0);
    // A Rust slice has to be aligned, and a field of a packed record array is not.
    let aligned = typed.data().is_aligned();
    if contiguous && upwards && aligned {
        return Ok(typed.try_readonly()?);
    }
    let order = PyDict::new(array.py());
    order.set_item("order", "C")?;
    let copy = array.py().import("numpy")?.getattr("array")?.call((array,), Some(&order))?;
    Ok(copy.cast::<PyArrayDyn<T>>()?.try_readonly()?)
}

fn view<'a, T: Element>(
    array: &'a PyReadonlyArrayDyn<'_, T>,
    elements: impl Fn(&'a [T]) -> Elements<'a>,
) -> Logits<'a> {
    let (shape, strides) = (array.shape(), array.strides());
    let vocabulary = shape[shape.len() - 1];
    let rows = if shape.len() == 2 { shape[0] } else { 1 };
    let stride =
        if shape.len() == 2 && rows > 1 { strides[0] as usize / size_of::<T>() } else { 0 };
    let length = if rows == 0 || vocabulary == 0 { 0 } else { (rows - 1) * stride + vocabulary };
    // SAFETY: `rows_contiguous` ensures that the data is aligned, that each row is contiguous and
    // that rows start `stride >= 0` elements apart, so the `length` elements from the first on end
    // with the last one of the array; the array is alive and its read-only borrow is held for 'a. An
    // array without elements may have any pointer, hence the empty slice for it.
    let slice =
        unsafe { if length == 0 { &[] } else { std::slice::from_raw_parts(array.data(), length) } };
    Logits { elements: elements(slice), rows, vocabulary, stride }
}
