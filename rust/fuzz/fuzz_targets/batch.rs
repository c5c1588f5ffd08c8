//! See `fastdecode_fuzz::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::batch(data));
