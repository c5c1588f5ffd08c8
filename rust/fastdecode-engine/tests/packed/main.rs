//! Packed files that are damaged, or made to do damage: an error for each, no panic, no memory taken.

#[path = "../../../fuzz/src/packed.rs"]
mod bodies;
mod fuzz;
mod hostile;
mod memory;
#[path = "../../../fuzz/src/running.rs"]
mod running;
#[path = "../engine/seeded.rs"]
mod seeded;
#[path = "../../../fuzz/src/smallest.rs"]
mod smallest;
#[path = "../gguf/watched.rs"]
mod watched;

use fastdecode_engine::{Error, Model, PackedFile};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file with some bytes, which is removed when it is no longer used.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("packed-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let path = running::place(&name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn load(&self) -> Result<Model, Error> {
        Model::from_packed(&PackedFile::open(&self.0)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The message about a file with these bytes, without its path.
fn message(bytes: &[u8]) -> String {
    let scratch = Scratch::new(bytes);
    let text = scratch.load().err().expect("a refusal").to_string();
    let path = scratch.0.display().to_string();
    assert!(text.starts_with(&path), "{text}");
    text[path.len() + 2..].to_owned()
}
