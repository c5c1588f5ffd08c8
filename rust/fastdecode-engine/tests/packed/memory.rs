//! What opening a file takes of memory: no allocation is larger than the file.

use crate::Scratch;
use crate::bodies::{good, of_header, with_header};
use crate::watched::{Watched, took};
use fastdecode_engine::{Format, PackedFile};

#[global_allocator]
static WATCHED: Watched = Watched;

/// Opens a file and checks what that took.
fn opened(what: &str, bytes: &[u8]) {
    let scratch = Scratch::new(bytes);
    let size = bytes.len();
    let (_, took) = took(|| PackedFile::open(&scratch.0));
    // An error's message has a few words of its own, with the path.
    assert!(took.largest <= size.max(1024), "{what}: {} of {size} at a time", took.largest);
    assert!(took.most <= 3 * size.cast_signed() + 8192, "{what}: {} of {size} in all", took.most);
}

#[test]
fn no_allocation_is_larger_than_the_file() {
    let whole = good(Format::Int4);
    opened("small", &whole);
    for length in [1u64 << 20, 1 << 40, u64::MAX] {
        for at in [16, 24] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
            opened("a length", &bytes);
        }
        for name in ["\"length\":", "\"lines\":"] {
            let number = |header: &str| {
                let at = header.find(name).unwrap() + name.len();
                let end = at + header[at..].find(',').unwrap();
                format!("{}{length}{}", &header[..at], &header[end..])
            };
            opened(name, &with_header(Format::Int4, number));
        }
    }
    // As much of everything as fits into a header.
    let sum = "0".repeat(32);
    let file = format!("{{\"name\":\"\",\"start\":0,\"length\":0,\"checksum\":\"{sum}\"}},");
    let place = "{\"name\":\"\",\"kind\":\"table\",\"format\":\"int8\",\"start\":0,\"lines\":0,\
                 \"inputs\":0,\"outputs\":0},";
    for (what, files, places, answers) in [
        ("many files", file.repeat(30_000), String::new(), String::new()),
        ("many places", String::new(), place.repeat(40_000), String::new()),
        ("many answers", String::new(), String::new(), "true,".repeat(400_000)),
    ] {
        let list = |entries: &str| format!("[{}]", entries.trim_end_matches(','));
        let header = format!(
            "{{\"dtype\":\"int8\",\"definition\":\"int8/1\",\"source\":\"\",\"files\":{},\"weights\":\
             {{\"start\":0,\"lines\":0,\"checksum\":\"{sum}\"}},\"contents\":{{\"places\":{},\
             \"answers\":{}}}}}",
            list(&files),
            list(&places),
            list(&answers),
        );
        opened(what, &of_header(&header));
    }
}
