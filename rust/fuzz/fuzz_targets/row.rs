//! See `fastdecode_fuzz::sampling::row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::sampling::row(data));
