//! The bodies of the fuzz targets on seeded damages of a good file: what CI runs where libFuzzer is not at
//! hand. `FASTDECODE_FUZZ_SECONDS=600 cargo test -p fastdecode-engine --test engine fuzz` runs them longer.

#[path = "../../../fuzz/src/files.rs"]
mod bodies;

use crate::seeded::run;
use crate::small::config_json;
use crate::smallest::smallest;

#[test]
fn any_tensors() {
    assert!(fastdecode_engine::Tensors::from_safetensors(&smallest()).is_ok());
    run(bodies::tensors, &bodies::tensor_seeds(), 1);
}

#[test]
fn any_config() {
    run(bodies::config, &[bodies::config_seeds(), vec![config_json().into()]].concat(), 2);
}

#[test]
fn any_index() {
    run(bodies::index, &bodies::index_seeds(), 4);
}
