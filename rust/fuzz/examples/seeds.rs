//! Writes the inputs that the targets of files begin with to `corpus`, and the names that mean something in
//! these files to `corpus/names.dict`, for libFuzzer's option `-dict`.

use fastdecode_fuzz::{files, gguf, packed};
use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [
        ("tensors", files::tensor_seeds()),
        ("config", files::config_seeds()),
        ("index", files::index_seeds()),
        ("gguf", [gguf::seeds(), vec![gguf::values()]].concat()),
        ("packed", packed::seeds()),
    ] {
        fs::create_dir_all(corpus.join(target))?;
        for (index, seed) in seeds.into_iter().enumerate() {
            fs::write(corpus.join(target).join(format!("seed-{index}")), seed)?;
        }
    }
    let names = gguf::names().map(|name| format!("{name:?}\n"));
    fs::write(corpus.join("names.dict"), names.collect::<String>())
}
