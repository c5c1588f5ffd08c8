//! See `fastdecode_fuzz::gguf::gguf`.
#![no_main]

use fastdecode_fuzz::watched::Watched;

#[global_allocator]
static WATCHED: Watched = Watched;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::gguf::gguf(data));
