//! See `fastdecode_fuzz::packed::packed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fastdecode_fuzz::packed::packed(data));
