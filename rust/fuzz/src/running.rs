//! What the targets of models share: where they write files, and how they run a model that loads.

use fastdecode_engine::{Model, Wanted, Workspace};
use std::path::{Path, PathBuf};

/// Where a target may write what has to be a file: in memory, if the system has such a place.
pub fn place(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("fastdecode-fuzz-{}.{name}", std::process::id()))
}

/// Runs a model that came from a file of `size` bytes.
pub fn run(model: &Model, size: usize) {
    // The weights are padded to whole panels, which are at most 64 kB wide for the models of a file.
    assert!(model.bytes() < 64 * size + (1 << 20));
    let mut logits = vec![0.0; model.config().vocab_size()];
    let mut workspace = Workspace::default();
    model
        .forward(&mut [model.sequence()], &[&[0]], Wanted::Last, &mut workspace, &mut logits)
        .expect("a sequence of one known token");
}
