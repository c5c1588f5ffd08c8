//! Weights in several files with an index, which may be damaged or made to do damage.

use crate::small::{Named, config_json, file, logits, model, tokens, weights};
use fastdecode_engine::{Format, Level, Model};
use std::fs;
use std::path::PathBuf;

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("fastdecode-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("config.json"), config_json()).unwrap();
        Self(place)
    }

    fn index(&self, map: &[(&str, &str)]) {
        let map: serde_json::Map<_, _> =
            map.iter().map(|&(name, file)| (name.to_owned(), file.into())).collect();
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        self.write("model.safetensors.index.json", index.to_string().as_bytes());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn load(&self) -> Result<Model, String> {
        Model::from_folder(&self.0, Format::Float32).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const FILES: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// The weights in two files, every other tensor in the second; both files have tensors of the other, with
/// other values.
fn split(folder: &Folder) -> Vec<(String, &'static str)> {
    let all = weights();
    let mut map = Vec::new();
    for (which, name) in FILES.into_iter().enumerate() {
        let mut named = Named::new();
        for (i, (tensor, (shape, x))) in all.iter().enumerate() {
            let here = i % 2 == which;
            if here {
                map.push((tensor.clone(), name));
            }
            if here || i % 3 == 0 {
                let x = x.iter().map(|x| if here { *x } else { 0.0 }).collect();
                named.insert(tensor.clone(), (shape.clone(), x));
            }
        }
        folder.write(name, &file(&named, ""));
    }
    map
}

#[test]
fn each_tensor_comes_from_the_file_that_the_index_names() {
    let folder = Folder::new("shards");
    let map = split(&folder);
    let map: Vec<(&str, &str)> = map.iter().map(|(name, file)| (name.as_str(), *file)).collect();
    folder.index(&map);
    let row = tokens(0, 30);
    let whole = model(Level::detect(), 2);
    assert_eq!(logits(&folder.load().unwrap(), &row), logits(&whole, &row));

    // One whole file beside them is read instead.
    folder.write("model.safetensors", &file(&weights(), ""));
    fs::remove_file(folder.0.join(FILES[0])).unwrap();
    assert_eq!(logits(&folder.load().unwrap(), &row), logits(&whole, &row));
}

#[test]
fn damaged_and_hostile_indexes_are_refused_by_name() {
    let folder = Folder::new("hostile-shards");
    let map = split(&folder);
    let map: Vec<(&str, &str)> = map.iter().map(|(name, file)| (name.as_str(), *file)).collect();
    let refused = |text: &str| {
        let message = folder.load().err().unwrap();
        assert!(message.contains(text), "{message}");
    };
    for text in ["", "{", "[]", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#] {
        folder.write("model.safetensors.index.json", text.as_bytes());
        refused("model.safetensors.index.json: the weights are damaged or incomplete: ");
    }
    let outside = folder.0.join(FILES[0]);
    for name in [
        outside.to_str().unwrap(),
        "../model.safetensors",
        "a/model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "/dev/zero",
        "",
    ] {
        let mut map = map.clone();
        map[3].1 = name;
        folder.index(&map);
        refused(&format!("{name:?} is not the name of a safetensors file beside the index"));
    }
    // A file that is missing, a tensor that no file has, and one that is in another file.
    let mut other = map.clone();
    other[3].1 = "model-00003-of-00002.safetensors";
    folder.index(&other);
    refused("model-00003-of-00002.safetensors cannot be read: ");
    folder.index(&map[1..]);
    refused(&format!("the weights have no tensor {:?}", map[0].0));
    folder.index(&map);
    folder.write(FILES[1], b"{}");
    refused("model-00002-of-00002.safetensors: the weights are damaged or incomplete: ");
}
