//! The bodies of the fuzz targets, one function for each.

#[path = "../../fastdecode-engine/tests/gguf/builder.rs"]
mod builder;
pub mod files;
pub mod gguf;
pub mod packed;
mod running;
pub mod sampling;
pub mod smallest;
#[path = "../../fastdecode-engine/tests/gguf/watched.rs"]
pub mod watched;
