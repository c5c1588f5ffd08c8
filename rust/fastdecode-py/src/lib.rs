//! The binding: check, borrow, release the GIL, map errors. No rule of decoding is here.
#![expect(clippy::doc_markdown, reason = "docstrings are for readers of Python")]

mod arguments;
mod beam;
mod beam_state;
mod borrow;
mod decode_state;
mod draws;
mod engine;
mod errors;
mod functions;
mod listing;
mod params;
mod requests;
mod values;

use fastdecode_simd::memory::Allocator;
use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// The Rust core of fastdecode.
#[pymodule]
mod _core {
    use super::{Allocator, Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use crate::beam::Beam;
    #[pymodule_export]
    use crate::beam_state::{BeamOutcome, BeamState, BeamStep};
    #[pymodule_export]
    use crate::decode_state::{DecodeState, DecodeStep};
    #[pymodule_export]
    use crate::draws::Draws;
    #[pymodule_export]
    use crate::engine::{
        GgufFile, NativeModel, NativeRows, PackedBytes, PackedFile, bfloat16_instruction,
    };
    #[pymodule_export]
    use crate::functions::{
        argmax, check_memory, distribution, log_softmax, logsumexp, multinomial, philox4x32,
        probe_memory, sample, token_logprobs, top_k, uniform, weights,
    };
    #[pymodule_export]
    use crate::listing::Listing;
    #[pymodule_export]
    use crate::params::{Sample, table};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        Allocator::hold();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("RNG_VERSION", fastdecode_core::RNG_VERSION)
    }
}
