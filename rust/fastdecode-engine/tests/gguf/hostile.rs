//! Files that lie: an error that names what is wrong and where, and no panic.

use crate::builder::{Builder, array, entry, string, tensor};
use crate::open;
use fastdecode_engine::gguf::{Error, Gguf};

fn message(bytes: Vec<u8>) -> String {
    open(bytes).unwrap_err().to_string()
}

fn with(change: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut builder = Builder::small();
    change(&mut builder);
    builder.bytes()
}

/// Everything that can be asked of a file.
fn visit(file: &Gguf) {
    for key in file.keys() {
        let value = file.get(key).expect("each key has a value");
        if let Some(array) = value.as_array() {
            assert_eq!(array.iter().count() as u64, array.len());
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.tensor(tensor.name).unwrap(), tensor);
        let mut to = vec![0.0; tensor.elements() as usize];
        match file.read(&tensor, 0, &mut to) {
            Ok(()) => {}
            Err(error) => assert!(matches!(error, Error::Encoding { .. }), "{error}"),
        }
    }
}

#[test]
fn cut_at_every_byte() {
    let whole = Builder::small().bytes();
    visit(&open(whole.clone()).unwrap());
    for length in 0..whole.len() {
        let error = open(whole[..length].to_vec()).unwrap_err();
        assert!(
            matches!(error, Error::Truncated { .. } | Error::Count { .. }),
            "{length} bytes: {error}"
        );
    }
}

#[test]
fn every_byte_of_the_header_changed() {
    let small = Builder::small();
    let (whole, header) = (small.bytes(), small.header().len());
    let mut refused = 0;
    for at in 0..header {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            match open(bytes) {
                Ok(file) => visit(&file),
                Err(_) => refused += 1,
            }
        }
    }
    // The others are changes of names, numbers and text.
    assert!(refused > header * 9 / 2, "{refused}");
}

#[test]
fn other_files() {
    for (bytes, expected) in [
        (
            b"GGML".to_vec(),
            "this is not a GGUF file: it begins with \"GGML\" where \"GGUF\" is expected",
        ),
        (
            b"\xff\xffxx____".to_vec(),
            "this is not a GGUF file: it begins with \"\u{fffd}\u{fffd}xx\"",
        ),
        (b"GG".to_vec(), "the header, at byte 0, needs 4 bytes, and the file has 2 from there"),
        (
            with(|b| b.version = 1),
            "this GGUF file has version 1 of the container, and versions 2 and 3",
        ),
        (
            with(|b| b.version = 4),
            "this GGUF file has version 4 of the container, and versions 2 and 3",
        ),
        (with(|b| b.version = 3u32.swap_bytes()), "this GGUF file is big-endian, and only little"),
    ] {
        let text = message(bytes);
        assert!(text.starts_with(expected), "{text}");
    }
    assert!(open(with(|b| b.version = 2)).is_ok());
}

#[test]
fn counts_and_lengths_that_lie() {
    let mut bytes = Builder::small().bytes();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    let text = message(bytes.clone());
    assert!(
        text.starts_with("byte 16 announces 18446744073709551615 metadata keys, and"),
        "{text}"
    );
    bytes[16..24].copy_from_slice(&16u64.to_le_bytes());
    bytes[8..16].copy_from_slice(&(1u64 << 60).to_le_bytes());
    let text = message(bytes);
    assert!(text.starts_with("byte 8 announces 1152921504606846976 tensors, and the"), "{text}");

    for length in [1u64 << 20, 1 << 40, u64::MAX - 8, u64::MAX] {
        // Of a key, a string, an array of strings, one of numbers, and a tensor's name.
        let long = length.to_le_bytes();
        let text = message(with(|b| b.entries[3] = [&long[..], b"key"].concat()));
        assert!(text.starts_with("the key of metadata entry 3, at byte "), "{text}");
        for (kind, value) in [
            (8, long.to_vec()),
            (9, array(8, length, &string("x"))),
            (9, array(4, length, &[0; 4])),
            (9, array(9, 1, &array(9, length, &[]))),
        ] {
            let text = message(with(|b| b.entries[3] = entry("liar", kind, &value)));
            assert!(text.starts_with("the metadata key \"liar\", at byte "), "{text}");
            assert!(text.contains("download the file again"), "{text}");
        }
        let text = message(with(|b| b.tensors[1] = [&long[..], b"name"].concat()));
        assert!(text.starts_with("the name of tensor 1, at byte "), "{text}");
    }
}

#[test]
fn metadata_that_is_impossible() {
    for (kind, value, expected) in [
        (13, vec![0; 8], "the metadata key \"odd\" has a value of type 13 at byte "),
        (9, array(99, 1, &[0; 8]), "the metadata key \"odd\" has a value of type 99 at byte "),
        (7, vec![2], "the metadata key \"odd\" has a boolean at byte "),
        (9, array(7, 2, &[1, 255]), "the metadata key \"odd\" has a boolean at byte "),
        (8, string(b"\xc3("), "the metadata key \"odd\" has text at byte "),
        (9, array(8, 1, &string(b"\xff")), "the metadata key \"odd\" has text at byte "),
    ] {
        let text = message(with(|b| b.entries[3] = entry("odd", kind, &value)));
        assert!(text.starts_with(expected), "{text}");
    }
    let text = message(with(|b| b.entries[3] = entry(b"\xf0key", 4, &[0; 4])));
    assert!(text.starts_with("the key of metadata entry 3 has text at byte "), "{text}");
    let text = message(with(|b| b.entries[5] = entry("u8", 4, &[0; 4])));
    assert!(
        text.starts_with("the metadata key \"u8\" occurs twice, the second time at "),
        "{text}"
    );
}

#[test]
fn arrays_within_arrays() {
    let nested = |levels| (1..levels).fold(array(0, 1, &[5]), |inner, _| array(9, 1, &inner));
    let file = open(with(|b| b.entries[3] = entry("deep", 9, &nested(8)))).unwrap();
    visit(&file);
    for levels in [9, 10, 5000] {
        let text = message(with(|b| b.entries[3] = entry("deep", 9, &nested(levels))));
        assert!(text.contains("has arrays within arrays at byte "), "{text}");
    }
}

#[test]
fn alignments() {
    for (value, expected) in [(0u32, "0"), (3, "3"), (48, "48"), (u32::MAX, "4294967295")] {
        let entry = entry("general.alignment", 4, &value.to_le_bytes());
        let text = message(with(|b| b.entries[3] = entry));
        let begin = format!("general.alignment is {expected}; it must be a power of two");
        assert!(text.starts_with(&begin), "{text}");
    }
    let wide = entry("general.alignment", 10, &32u64.to_le_bytes());
    let text = message(with(|b| b.entries[3] = wide));
    assert!(text.starts_with("general.alignment is an unsigned 64-bit integer; it must"), "{text}");
    let set = |alignment: u32| {
        with(|b| {
            b.entries[3] = entry("general.alignment", 4, &alignment.to_le_bytes());
            b.alignment = alignment as usize;
        })
    };
    for alignment in [1, 2, 8, 16, 32] {
        visit(&open(set(alignment)).unwrap());
    }
    let text = message(set(64));
    assert_eq!(
        text,
        "the tensor \"matrix\" begins 32 bytes into the tensors' data, which is not a multiple of the \
         file's alignment, 64"
    );
    let text = message(with(|b| {
        b.entries[3] = entry("general.alignment", 4, &(1u32 << 31).to_le_bytes());
        b.tensors.truncate(1);
    }));
    assert!(text.starts_with("the tensor \"norm\", at byte 2147483648, needs 12 bytes"), "{text}");
}

#[test]
fn tensors_that_are_impossible() {
    let huge = [1 << 62, 2, 1, 1];
    for (description, expected) in [
        (tensor("odd", &[1; 5], 0, 0), "the tensor \"odd\" has 5 dimensions at byte "),
        (tensor("odd", &[0, 4], 0, 0), "the tensor \"odd\" at byte "),
        (tensor("odd", &huge, 0, 0), "the tensor \"odd\" at byte "),
        (tensor("odd", &[u64::MAX; 4], 0, 0), "the tensor \"odd\" at byte "),
        (tensor("odd", &[32], 4, 0), "the tensor \"odd\" has type 4 at byte "),
        (tensor("odd", &[32], 99, 0), "the tensor \"odd\" has type 99 at byte "),
        (
            tensor("odd", &[33, 32], 8, 0),
            "the tensor \"odd\" has rows of 33 elements, which are not",
        ),
        (
            tensor("odd", &[128], 12, 0),
            "the tensor \"odd\" has rows of 128 elements, which are not",
        ),
        (tensor("odd", &[3], 0, 33), "the tensor \"odd\" begins 33 bytes into the tensors' data"),
        (tensor("odd", &[3], 0, 1 << 40), "the tensor \"odd\", at byte "),
        (tensor("odd", &[3], 0, u64::MAX - 31), "the tensor \"odd\", at byte "),
        (tensor("odd", &[1 << 50], 0, 0), "the tensor \"odd\", at byte "),
        (tensor("odd", &[3], 0, 32), "the tensors \""),
        (tensor("matrix", &[3], 0, 0), "the tensor \"matrix\" occurs twice, the second time at"),
        (tensor(b"\xff", &[3], 0, 0), "the name of tensor 0 has text at byte "),
    ] {
        let text = message(with(|b| b.tensors[0] = description));
        assert!(text.starts_with(expected), "{text}");
    }
    // The dimensions of this one would take more than the whole file.
    let text = message(with(|b| {
        b.tensors[2] = [string("odd"), u32::MAX.to_le_bytes().to_vec(), vec![0; 12]].concat();
    }));
    assert!(text.starts_with("the tensor \"odd\" has 4294967295 dimensions at byte "), "{text}");
}

#[test]
fn encodings_that_are_not_read_are_named() {
    let file = open(with(|b| b.tensors[0] = tensor("odd", &[2], 26, 0))).unwrap();
    let error = file.read(&file.tensor("odd").unwrap(), 0, &mut [0.0; 2]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tensor \"odd\" is stored as I32, which is not read; take a file of the model in one of \
         these, or make one with llama-quantize: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, \
         Q4_K, Q5_K, Q6_K, Q8_K, IQ4_NL, BF16"
    );
}

#[test]
fn weights_without_dimensions_are_refused() {
    let numbers = [
        "embedding_length",
        "feed_forward_length",
        "block_count",
        "context_length",
        "attention.head_count",
    ];
    let key = |name| {
        let value = if name == "attention.head_count" { 1u32 } else { 2 };
        entry(format!("llama.{name}"), 4, &value.to_le_bytes())
    };
    let refused = |name: &str| {
        let file = open(with(|b| {
            b.entries.truncate(1);
            b.entries.extend(numbers.map(key));
            b.tensors = vec![tensor(name, &[], 0, 0)];
        }));
        let file = file.unwrap();
        assert_eq!(file.tensors().map(|tensor| tensor.elements()).collect::<Vec<_>>(), [1]);
        let expected = format!("the tensor \"{name}\": it has no dimensions");
        let error = file.weights().unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
        (file, expected)
    };
    refused("blk.0.attn_q.weight");
    let (file, expected) = refused("token_embd.weight");
    let error = file.config().unwrap_err().to_string();
    assert!(error.starts_with(&expected), "{error}");
}
