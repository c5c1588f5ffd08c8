//! Packed files of every family and format: the model that is read is the one that was written, to the bit.

use crate::families;
use crate::small::{CONTEXT, bits, config_json, logits, model_of, tokens};
use fastdecode_engine::{Format, LAYOUT, Level, Model, PackedFile};
use std::path::PathBuf;

/// A file that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("fastdecode-{name}-{}", std::process::id())))
    }

    /// Packs a model and reads it again.
    fn again(&self, model: &Model, config: &str) -> Model {
        self.write(model, config);
        Model::from_packed(&PackedFile::open(&self.0).unwrap()).unwrap()
    }

    fn write(&self, model: &Model, config: &str) {
        let files = [("config.json", config.as_bytes()), ("notes/a.txt", b"travels along")];
        let packed = model.pack("whatever the caller says", &files).unwrap();
        packed.write(&mut std::fs::File::create(&self.0).unwrap()).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_packed_model_is_the_same_model() {
    let scratch = Scratch::new("same-packed");
    for format in Format::ALL {
        let model = model_of(format, Level::detect(), 2);
        let again = scratch.again(&model, &config_json());
        assert_eq!(again.storage(), format.into());
        assert_eq!(again.weights_as_bytes(), model.weights_as_bytes());
        let row = tokens(1, CONTEXT);
        assert_eq!(logits(&again, &row), logits(&model, &row));
        // What was read can be packed again, to the same file.
        let first = std::fs::read(&scratch.0).unwrap();
        scratch.write(&again, &config_json());
        assert_eq!(std::fs::read(&scratch.0).unwrap(), first);
    }
}

#[test]
fn every_family_is_read_as_it_was_packed() {
    let scratch = Scratch::new("families-packed");
    for small in families::all() {
        for format in Format::ALL {
            let model = small.model(format, Level::detect(), 2);
            let again = scratch.again(&model, &small.config());
            assert_eq!(again.weights_as_bytes(), model.weights_as_bytes(), "{}", small.name);
            let row = tokens(1, 20);
            assert_eq!(bits(&all_logits(&again, &row)), bits(&all_logits(&model, &row)));
        }
    }
}

fn all_logits(model: &Model, row: &[u32]) -> Vec<f32> {
    let mut out = vec![0.0; row.len() * model.config().vocab_size()];
    let wanted = fastdecode_engine::Wanted::All;
    let mut workspace = fastdecode_engine::Workspace::default();
    model.forward(&mut [model.sequence()], &[row], wanted, &mut workspace, &mut out).unwrap();
    out
}

#[test]
fn a_file_says_what_it_contains() {
    let scratch = Scratch::new("says-packed");
    let model = model_of(Format::Int8, Level::detect(), 1);
    scratch.write(&model, &config_json());
    let file = PackedFile::open(&scratch.0).unwrap();
    assert_eq!(file.path(), scratch.0);
    assert_eq!(file.length(), std::fs::metadata(&scratch.0).unwrap().len());
    assert_eq!(file.source(), "whatever the caller says");
    assert_eq!(file.names().collect::<Vec<_>>(), ["config.json", "notes/a.txt"]);
    assert_eq!(file.read("notes/a.txt").unwrap(), b"travels along");
    let error = file.read("notes").unwrap_err().to_string();
    assert!(error.contains(": it contains no \"notes\"; make it again with `fastdecode pack "));
    file.check().unwrap();
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let model = model_of(Format::Float32, Level::detect(), 1);
    let config = config_json();
    let message = |files: &[(&str, &[u8])]| model.pack("", files).unwrap_err().to_string();
    assert!(message(&[]).starts_with("it contains no \"config.json\""));
    for name in ["", "../a", "/a", "a\\b", "é"] {
        let text = message(&[("config.json", config.as_bytes()), (name, b"")]);
        assert!(text.starts_with(&format!("files[{name:?}]: give a relative path")), "{text}");
    }
}

/// The checksums of the packed weights of the small model, by the definition of the format. A change of one
/// means that files which were packed before are laid out differently: raise `LAYOUT`, and take the new
/// checksums. A new definition gets a line of its own.
const PACKED: [(&str, u32, u64); 5] = [
    ("float32/1", 1, 0xebb16a58a10b4053),
    ("bfloat16/2", 1, 0x637c1c2763779b49),
    ("bfloat16/1", 1, 0x637c1c2763779b49),
    ("int8/1", 1, 0xd79c911e7bb0be70),
    ("int4/1", 1, 0x646968ebc53ad271),
];

#[test]
fn the_layout_is_that_of_its_version() {
    let found = Format::ALL.map(|format| {
        let model = model_of(format, Level::detect(), 1);
        let checksum = xxhash_rust::xxh3::xxh3_64(model.weights_as_bytes());
        (format.definition(), LAYOUT, checksum)
    });
    assert!(found.iter().all(|one| PACKED.contains(one)), "{found:?}");
}
