//! Files that are damaged, or made to do damage: an error for each, no panic, no memory taken.

use crate::small::{Named, config, config_json, file, weights};
use fastdecode_engine::Level;
use fastdecode_engine::{Config, Elements, Error, Format, Model, Tensor, Tensors, WeightsFile};
use half::{bf16, f16};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn load(bytes: &[u8]) -> Result<Model, Error> {
    Model::with(config(), &Tensors::from_safetensors(bytes)?, Format::Float32, Level::detect(), 1)
}

fn message(bytes: &[u8]) -> String {
    load(bytes).err().unwrap().to_string()
}

fn changed(change: impl FnOnce(&mut Named)) -> Vec<u8> {
    let mut named = weights();
    change(&mut named);
    file(&named, "transformer.")
}

#[test]
fn a_file_cut_short_anywhere() {
    let whole = file(&weights(), "");
    assert!(load(&whole).is_ok());
    for length in (0..200).chain((200..whole.len()).step_by(4099)) {
        let text = message(&whole[..length]);
        assert!(text.starts_with("the weights are damaged or incomplete: "), "{text}");
    }
}

#[test]
fn headers_that_lie() {
    let header = |json: &str| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    };
    for bytes in [
        vec![0xFF; 8],
        [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat(),
        header("{"),
        header(r#"{"wte.weight":{"dtype":"F32","shape":[77,40],"data_offsets":[0,12320]}}"#),
        header(
            r#"{"wte.weight":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,0]}}"#,
        ),
        header(r#"{"wte.weight":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#),
    ] {
        assert!(load(&bytes).is_err());
    }
}

#[test]
fn tensors_that_are_missing_or_misshapen() {
    let name = "h.1.mlp.c_fc.weight";
    let bytes = changed(|named| _ = named.remove(name));
    assert_eq!(
        message(&bytes),
        "the weights have no tensor \"h.1.mlp.c_fc.weight\"; take the checkpoint again"
    );
    let bytes = changed(|named| named.get_mut(name).unwrap().0.reverse());
    assert_eq!(
        message(&bytes),
        "the weights' tensor \"h.1.mlp.c_fc.weight\" has shape [600, 40], and the configuration \
         asks for [40, 600]"
    );
    let bytes = changed(|named| _ = named.insert("wpe.weight".into(), (vec![0, 40], vec![])));
    assert!(message(&bytes).contains("has shape [0, 40]"));
}

#[test]
fn weights_that_are_not_finite() {
    for (name, at, bad) in [
        ("h.0.attn.c_attn.weight", 4799, f32::NAN),
        ("wte.weight", 3000, f32::INFINITY),
        ("h.1.mlp.c_fc.bias", 599, f32::NEG_INFINITY),
        ("wpe.weight", 0, f32::NAN),
    ] {
        let bytes = changed(|named| named.get_mut(name).unwrap().1[at] = bad);
        assert_eq!(
            message(&bytes),
            format!("the weights are damaged: {name:?} has values that are not finite")
        );
    }
}

/// One tensor by name in both types of two bytes: its shape, float16, and bfloat16's bits.
type Halves = (String, Vec<usize>, Vec<f16>, Vec<u16>);

#[test]
fn other_types_are_refused_and_half_ones_are_widened() {
    let named = weights();
    let mut tensors = Tensors::default();
    let halves: Vec<Halves> = named
        .iter()
        .map(|(name, (shape, x))| {
            let sixteen = x.iter().map(|&x| f16::from_f32(x)).collect();
            let brain = x.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
            (name.clone(), shape.clone(), sixteen, brain)
        })
        .collect();
    let mut rounded = named.clone();
    for (i, (name, shape, sixteen, brain)) in halves.iter().enumerate() {
        let x = &mut rounded.get_mut(name).unwrap().1;
        let elements = if i % 2 == 0 {
            x.iter_mut().zip(sixteen).for_each(|(x, h)| *x = h.to_f32());
            Elements::F16(sixteen)
        } else {
            x.iter_mut().zip(brain).for_each(|(x, &h)| *x = bf16::from_bits(h).to_f32());
            Elements::BF16(brain)
        };
        tensors.insert(name, Tensor { shape: shape.clone(), elements });
    }
    let widened = Model::with(config(), &tensors, Format::Float32, Level::detect(), 1).unwrap();
    let same = load(&file(&rounded, "")).unwrap();
    let row = crate::small::tokens(1, 30);
    assert_eq!(crate::small::logits(&widened, &row), crate::small::logits(&same, &row));

    let mut bytes = file(&named, "");
    let at = bytes.windows(5).position(|w| w == b"\"F32\"").unwrap();
    bytes[at..at + 5].copy_from_slice(b"\"I32\"");
    let text = message(&bytes);
    assert!(text.ends_with(" is I32; this engine reads float32, float16 and bfloat16"), "{text}");
}

/// A new folder.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("fastdecode-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_file_gives_the_model_of_its_bytes() {
    let folder = folder("same");
    let path = folder.join("model.safetensors");
    let bytes = file(&weights(), "transformer.");
    std::fs::write(&path, &bytes).unwrap();
    let opened = WeightsFile::open(&path).unwrap();
    for format in Format::ALL {
        for threads in [1, 3] {
            let model = |tensors: &Tensors<'_>| {
                Model::with(config(), tensors, format, Level::detect(), threads).unwrap()
            };
            let stored = model(&Tensors::from_file(&opened).unwrap());
            let held = model(&Tensors::from_safetensors(&bytes).unwrap());
            let row = crate::small::tokens(2, 40);
            assert_eq!(crate::small::logits(&stored, &row), crate::small::logits(&held, &row));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_is_cut_or_written_to_while_it_is_read() {
    let folder = folder("changed");
    let path = folder.join("model.safetensors");
    let bytes = file(&weights(), "");
    let mut other = bytes.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    let mut unusable = bytes.clone();
    unusable[last - 3..].fill(0xFF);
    let longer = [bytes.as_slice(), b"more"].concat();
    let cuts = [0, 7, 100, bytes.len() / 2, last].map(|length| &bytes[..length]);
    for new in cuts.into_iter().chain([other.as_slice(), &unusable, &longer]) {
        // In place, so that it is the open file that changes, after its header was read.
        std::fs::write(&path, &bytes).unwrap();
        let opened = WeightsFile::open(&path).unwrap();
        let tensors = Tensors::from_file(&opened).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, new).unwrap();
        let error = Model::with(config(), &tensors, Format::Float32, Level::detect(), 2).err();
        let error = error.unwrap().to_string();
        assert_eq!(
            error,
            format!(
                "{} was changed or cut while it was read; load the model again once nothing \
                 writes to it",
                path.display()
            )
        );
    }
    // Cut before the header was read.
    std::fs::write(&path, &bytes).unwrap();
    let opened = WeightsFile::open(&path).unwrap();
    for length in [100, 4, 0] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Tensors::from_file(&opened).unwrap_err().to_string();
        assert!(error.contains("was changed or cut while it was read"), "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_that_another_thread_keeps_cutting() {
    let folder = folder("cut");
    let path = folder.join("model.safetensors");
    let bytes = file(&weights(), "");
    std::fs::write(folder.join("config.json"), config_json()).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for length in (0..bytes.len()).step_by(997).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::fs::write(&path, &bytes[..length]).unwrap();
                std::fs::write(&path, &bytes).unwrap();
            }
        });
        for _ in 0..200 {
            if let Err(error) = Model::from_folder(&folder, Format::Int8) {
                let error = error.to_string();
                assert!(error.contains("model.safetensors"), "{error}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn folders_without_their_files() {
    let folder = folder("files");
    let message =
        || Model::from_folder(&folder, Format::Float32).err().map(|error| error.to_string());
    assert!(message().unwrap().contains("config.json cannot be read: "));
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    assert!(message().unwrap().contains("is not the configuration of a gpt2 model: missing field"));
    std::fs::write(folder.join("config.json"), config_json()).unwrap();
    assert!(message().unwrap().contains("model.safetensors cannot be read: "));
    std::fs::write(folder.join("model.safetensors"), "").unwrap();
    assert!(message().is_some());
    std::fs::write(folder.join("model.safetensors"), file(&weights(), "transformer.")).unwrap();
    assert_eq!(message(), None);
    std::fs::remove_dir_all(&folder).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any few bytes changed, of the header or of the values: an error, or a model that runs,
    /// never a panic.
    #[test]
    fn bytes_changed_anywhere(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        format in prop::sample::select(Format::ALL.to_vec()),
    ) {
        let mut bytes = file(&weights(), "");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let load = || {
            let tensors = Tensors::from_safetensors(&bytes)?;
            Model::with(config(), &tensors, format, Level::detect(), 1)
        };
        if let Ok(model) = load() {
            crate::small::logits(&model, &[1, 2, 3]);
        }
    }

    /// A configuration with any numbers in it over weights of one shape: an error, or the model
    /// that it was; what is allocated is bounded by the file.
    #[test]
    fn configurations_that_the_weights_are_not_of(
        numbers in prop::collection::btree_map(
            prop::sample::select(
                vec!["vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "n_inner"],
            ),
            prop_oneof![
                0u64..100,
                (0u32..64).prop_map(|shift| 1 << shift),
                Just(u64::MAX),
            ],
            1..4,
        ),
    ) {
        let mut fields: serde_json::Value = serde_json::from_str(&config_json()).unwrap();
        for (name, number) in &numbers {
            fields[*name] = (*number).into();
        }
        let text = fields.to_string();
        let bytes = file(&weights(), "");
        let load = || {
            let config = Config::from_json(text.as_bytes(), Path::new("config.json"))?;
            let tensors = Tensors::from_safetensors(&bytes)?;
            Model::with(config, &tensors, Format::Float32, Level::detect(), 1)
        };
        if let Ok(model) = load() {
            // Fewer layers, another number of heads.
            prop_assert!(model.bytes() < 2 * bytes.len());
            crate::small::logits(&model, &[1, 2, 3]);
        }
    }

    /// Any bytes at all as a configuration, or a part of one.
    #[test]
    fn configurations_of_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = config_json();
        let part = &whole.as_bytes()[..cut.index(whole.len())];
        prop_assert!(Config::from_json(part, Path::new("config.json")).is_err());
        let _ = Config::from_json(&bytes, Path::new("config.json"));
        let _ = Tensors::from_safetensors(&bytes);
    }

    /// Any few bytes of the header changed: an error, or a model, never a panic.
    #[test]
    fn bytes_changed_at_random(changes in prop::collection::vec((0usize..3000, any::<u8>()), 1..6)) {
        let mut bytes = file(&weights(), "");
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let _ = load(&bytes);
    }
}
