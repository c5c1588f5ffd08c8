//! What opening a file takes of memory: no allocation is larger than the file.

use crate::builder::{Builder, array, entry, string, tensor};
use crate::open;
use crate::watched::{Watched, took};

#[global_allocator]
static WATCHED: Watched = Watched;

/// Opens a file and checks what that took.
fn opened(what: &str, bytes: Vec<u8>) {
    let size = bytes.len();
    let (_, took) = took(|| open(bytes));
    // An error's message has a few words of its own.
    assert!(took.largest <= size.max(256), "{what}: {} of {size} at a time", took.largest);
    assert!(took.most <= 3 * size.cast_signed() + 1024, "{what}: {} of {size} in all", took.most);
}

#[test]
fn no_allocation_is_larger_than_the_file() {
    let small = Builder::small();
    opened("small", small.bytes());
    for length in [1 << 20, 1 << 40, u64::MAX] {
        for (kind, value) in [
            (8, u64::to_le_bytes(length).to_vec()),
            (9, array(8, length, &string("x"))),
            (9, array(0, length, &[0; 4])),
        ] {
            let mut lying = Builder::small();
            lying.entries[3] = entry("liar", kind, &value);
            opened("a lie", lying.bytes());
        }
        for at in [8, 16] {
            let mut bytes = small.bytes();
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
            opened("a count", bytes);
        }
    }
    // The smallest entries and tensors that there can be, as many as fit.
    let mut many = Builder { data: Vec::new(), ..Builder::small() };
    many.entries = (0..30_000u32).map(|i| entry(&i.to_le_bytes()[..2], 0, &[0])).collect();
    many.entries.retain(|entry| std::str::from_utf8(&entry[8..10]).is_ok());
    opened("many entries", many.bytes());
    many.tensors = (0..20_000).map(|i| tensor(i.to_string(), &[], 24, i * 32)).collect();
    opened("many tensors", many.bytes());
    many.data = vec![0; 20_000 * 32];
    opened("many whole tensors", many.bytes());
    let strings: Vec<u8> = (0..100_000).flat_map(|_| string("")).collect();
    many.entries = vec![entry("strings", 9, &array(8, 100_000, &strings))];
    opened("many strings", many.bytes());
    let long = vec![b'k'; 1 << 20];
    many.entries = vec![entry(&long, 4, &[0; 4]), entry(&long, 4, &[0; 4])];
    opened("long keys", many.bytes());
}
