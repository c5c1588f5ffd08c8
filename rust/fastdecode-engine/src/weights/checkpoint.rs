//! The weights in a folder: one safetensors file, or several with an index.

use super::file::WeightsFile;
use super::tensors::Tensors;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The open files of a model's weights.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file that messages about the weights as a whole name: the only one, or the index.
    path: PathBuf,
    files: Vec<WeightsFile>,
    /// The file that each tensor is in, where there is an index.
    places: Option<BTreeMap<String, String>>,
}

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SUFFIX: &str = ".safetensors";
/// Bytes of the largest index; those of real models have less than one percent of that.
const LARGEST_INDEX: u64 = 100_000_000;

/// transformers' index of the files of a model.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// If a file cannot be opened, or the index is damaged or names something other than a file beside it.
    pub fn open(folder: &Path) -> Result<Self> {
        let (whole, index) = (folder.join(WHOLE), folder.join(INDEX));
        if whole.exists() || !index.exists() {
            let files = vec![WeightsFile::open(&whole)?];
            return Ok(Self { path: whole, files, places: None });
        }
        let places = read_index(&index).map_err(|error| error.within(&index))?;
        let names: BTreeSet<&String> = places.values().collect();
        let open = |name: &&String| WeightsFile::open(&folder.join(name));
        let files = names.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { path: index, files, places: Some(places) })
    }

    /// The file that messages about the weights as a whole name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its tensors. Of a file among several those that the index says are in it.
    ///
    /// # Errors
    /// If a file cannot be read, or is not a whole safetensors file.
    pub fn tensors(&self) -> Result<Tensors<'_>> {
        let mut all = Tensors::default();
        for file in &self.files {
            let found = Tensors::from_file(file).map_err(|error| error.within(file.path()))?;
            all.extend(found, |tensor| {
                self.places.as_ref().is_none_or(|places| {
                    let place = places.get(tensor).map(Path::new);
                    place.is_some() && place == file.path().file_name().map(Path::new)
                })
            });
        }
        Ok(all)
    }
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let failed = |source| Error::file(path, source);
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST_INDEX {
        return Err(Error::Format("the index is too large".into()));
    }
    let text = std::fs::read(path).map_err(failed)?;
    let index: Index =
        serde_json::from_slice(&text).map_err(|error| Error::Format(error.to_string()))?;
    match index.weight_map.values().find(|name| !is_beside(name)) {
        Some(name) => Err(Error::Format(format!(
            "{name:?} is not the name of a safetensors file beside the index"
        ))),
        None => Ok(index.weight_map),
    }
}

/// Whether a name is that of a file in the same folder.
fn is_beside(name: &str) -> bool {
    name.ends_with(SUFFIX) && Path::new(name).file_name().is_some_and(|file| file == name)
}

#[cfg(test)]
mod tests {
    use super::is_beside;

    #[test]
    fn names_outside_the_folder_are_known() {
        assert!(is_beside("model-00001-of-00002.safetensors"));
        for name in [
            "",
            ".safetensors/",
            "a/b.safetensors",
            "../b.safetensors",
            "/b.safetensors",
            "a/../b.safetensors",
            "b.safetensors/..",
            "model.safetensors.index.json",
            "weights.bin",
        ] {
            assert!(!is_beside(name), "{name}");
        }
    }
}
