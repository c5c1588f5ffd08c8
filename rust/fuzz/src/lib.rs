//! The bodies of the fuzz targets, one function for each.

#[path = "../../fastdecode-engine/tests/gguf/builder.rs"]
mod builder;
pub mod files;
pub mod gguf;
mod running;
pub mod sampling;
#[path = "../../fastdecode-engine/tests/gguf/watched.rs"]
pub mod watched;
