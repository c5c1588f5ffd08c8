//! See `fastdecode_fuzz::row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::row(data));
