//! See `fastdecode_fuzz::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::key(data));
