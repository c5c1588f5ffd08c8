//! Files that lie.

use crate::bodies::{good, with_header};
use crate::{Scratch, message};
use fastdecode_engine::{Format, Model, PackedFile};
use std::time::Duration;

const AGAIN: &str = "; make it again with `fastdecode pack MODEL --dtype DTYPE`";

#[test]
fn cut_anywhere() {
    let whole = good(Format::Int4);
    assert!(Scratch::new(&whole).load().is_ok());
    for length in (0..300).chain((300..whole.len()).step_by(97)) {
        let text = message(&whole[..length]);
        let expected = match length {
            0..8 => "it is not a packed file; make one with `fastdecode pack ".to_owned(),
            8..12 => format!("it has {length} bytes and should have 64"),
            12..64 => format!("it has {length} bytes and should have "),
            _ => format!("it has {length} bytes and should have {}", whole.len()),
        };
        assert!(text.starts_with(&expected), "{length}: {text}");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert!(message(&longer).ends_with(AGAIN));
}

#[test]
fn every_byte_before_the_weights_changed() {
    let whole = good(Format::Int8);
    let start = whole.len() - weights(Format::Int8);
    for at in 0..start {
        for change in [1, 128] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let scratch = Scratch::new(&bytes);
            // Only the padding before the weights belongs to nothing.
            if let Ok(model) = scratch.load() {
                assert_eq!(whole[at], 0, "byte {at}");
                assert_eq!(model.storage(), Format::Int8.into());
            }
        }
    }
}

/// Bytes of the weights of the small model.
fn weights(format: Format) -> usize {
    Scratch::new(&good(format)).load().unwrap().weights_as_bytes().len()
}

#[test]
fn a_changed_weight_is_found_by_a_check() {
    for format in Format::ALL {
        let whole = good(format);
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        let scratch = Scratch::new(&bytes);
        assert!(scratch.load().is_ok());
        let text = PackedFile::open(&scratch.0).unwrap().check().unwrap_err().to_string();
        assert!(text.contains("the checksum of \"weights\" is another one"), "{text}");
        assert!(text.ends_with(AGAIN));
        PackedFile::open(&Scratch::new(&whole).0).unwrap().check().unwrap();
    }
}

#[test]
fn headers_that_lie() {
    for (from, to, expected) in [
        (
            "\"dtype\":\"int8\"",
            "\"dtype\":\"int9\"",
            "its header is damaged: it has the unknown number format",
        ),
        (
            "\"definition\":\"int8/1\"",
            "\"definition\":\"int8/0\"",
            "it was packed as int8/0, and this version of fastdecode computes int8 as int8/1; make it again \
             with `fastdecode pack MODEL --dtype int8`",
        ),
        (
            "\"config.json\"",
            "\"../../a.json\"",
            "its header is damaged: \"../../a.json\" is no name of a file",
        ),
        ("\"config.json\"", "\"configs.json\"", "it contains no \"config.json\""),
        (
            "\"start\":2,\"lines\":2",
            "\"start\":2,\"lines\":3",
            "its weights are not described as its configuration needs",
        ),
        ("\"lines\":", "\"lines\":-", "its header is damaged: invalid value"),
        (
            "\"name\":\"h.0",
            "\"name\":\"h.1",
            "its weights are not described as its configuration needs",
        ),
        ("\"kind\":\"matrix\"", "\"kind\":\"table\"", "its weights are not described as its"),
        ("\"format\":\"int8\"", "\"format\":\"float32\"", "its weights are not described as its"),
        ("\"source\":\"\"", "\"source\":1", "its header is damaged: invalid type"),
        ("\"source\"", "\"sauce\"", "its header is damaged: unknown field"),
        ("\"answers\":[false]", "\"answers\":[]", "its weights are not described as its"),
        ("\"answers\":[false]", "\"answers\":[true]", "its weights are not described as its"),
        (
            "\"answers\":[false]",
            "\"answers\":[false,false]",
            "its weights are not described as its",
        ),
        ("{", "[", "its header is damaged: "),
    ] {
        let text = message(&with_header(Format::Int8, |header| {
            assert!(header.contains(from), "{from} {header}");
            header.replacen(from, to, 1)
        }));
        assert!(text.starts_with(expected), "{from} -> {to}: {text}");
    }
}

#[test]
fn places_outside_the_file() {
    let sizes = ["0", "63", "8191", "8193", "999999", "18446744073709551615"];
    for size in sizes {
        for which in 0..2 {
            let bytes = with_header(Format::Float32, |header| {
                let at = header.match_indices("\"start\":").nth(which).unwrap().0 + 8;
                let end = at + header[at..].find(',').unwrap();
                format!("{}{size}{}", &header[..at], &header[end..])
            });
            let text = message(&bytes);
            let known = ["its header is damaged: ", "its contents are damaged: the checksum of "];
            assert!(known.iter().any(|known| text.starts_with(known)), "{which} {size}: {text}");
        }
    }
    for lines in ["0", "1", "99999999", "18446744073709551615", "288230376151711744"] {
        let text = message(&with_header(Format::Float32, |header| {
            let at = header.find("\"lines\":").unwrap() + 8;
            let end = at + header[at..].find(',').unwrap();
            format!("{}{lines}{}", &header[..at], &header[end..])
        }));
        assert!(text.starts_with("its header is damaged: "), "{lines}: {text}");
    }
}

#[test]
fn a_configuration_of_a_larger_model() {
    // What a configuration says is compared with the weights before memory is taken for it.
    for (from, to) in [
        ("\"n_layer\": 1", "\"n_layer\": 4096"),
        ("\"n_embd\": 2", "\"n_embd\": 16777216"),
        ("\"vocab_size\": 3", "\"vocab_size\": 16777216"),
        ("\"n_positions\": 2", "\"n_positions\": 16777216"),
        ("\"n_inner\": 2", "\"n_inner\": 67108864"),
        ("gpt2", "gpt_neox"),
    ] {
        let config = crate::smallest::SMALLEST.replace(from, to);
        assert_ne!(config, crate::smallest::SMALLEST);
        let bytes = crate::bodies::with_config(Format::Float32, &config);
        let scratch = Scratch::new(&bytes);
        assert!(scratch.load().is_err(), "{to}");
    }
}

#[test]
fn other_versions_and_other_files() {
    let mut bytes = good(Format::Float32);
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    let text = message(&bytes);
    let expected = "its layout has version 7, and this version of fastdecode reads version 1";
    assert_eq!(text, format!("{expected}{AGAIN}"));
    for other in [b"GGUF".as_slice(), b"", b"PK\x03\x04", &[0; 100], b"{\"a\": 1}"] {
        assert!(message(other).starts_with("it is not a packed file; make one with"));
    }
}

#[test]
fn a_file_that_is_cut_or_written_to_after_it_was_opened() {
    let whole = good(Format::Float32);
    let scratch = Scratch::new(&whole);
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    for new in [&whole[..whole.len() - 1], &whole[..100], &[], &other] {
        std::fs::write(&scratch.0, &whole).unwrap();
        let file = PackedFile::open(&scratch.0).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&scratch.0, new).unwrap();
        let text = Model::from_packed(&file).err().unwrap().to_string();
        assert!(text.contains("was changed or cut while it was read"), "{text}");
    }
}
