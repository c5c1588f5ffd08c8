//! See `fastdecode_fuzz::files::index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::files::index(data));
