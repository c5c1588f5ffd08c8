//! Prints the logits whose digest `tests/golden.py` checks, for machines or emulators without Python. The
//! digest is the beginning of the output of `sha256sum`:
//!
//! `cargo run --release --example golden_logits python/fastdecode/demo float32 | sha256sum`

use fastdecode_engine::{Batch, Model};
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

const LENGTHS: [usize; 8] = [1, 2, 3, 17, 1, 4, 2, 5];
const ROWS: usize = 32;
const STEPS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, dtype] = arguments.as_slice() else {
        return Err("give a model's folder and a dtype".into());
    };
    let model = Arc::new(Model::from_folder(Path::new(folder), dtype.parse()?)?);
    eprintln!("{}, {:?}", model.storage().name(), model.level());
    let vocabulary = model.config().vocab_size();
    let token = |row: usize, i: usize| ((row * 7919 + i * 104_729 + 1) % vocabulary) as u32;
    let length = |row: usize| LENGTHS[row % LENGTHS.len()];

    let prompts: Vec<Vec<u32>> =
        (0..ROWS).map(|row| (0..length(row)).map(|i| token(row, i)).collect()).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let mut logits = vec![vec![0.0; ROWS * vocabulary]; 1 + STEPS];
    let mut batch = Batch::new(model);
    batch.join(&prompts, &[1; ROWS], &mut logits[0])?;
    for (step, logits) in logits[1..].iter_mut().enumerate() {
        let next: Vec<u32> = (0..ROWS).map(|row| token(row, length(row) + step)).collect();
        batch.step(&next, logits)?;
    }
    let mut out = std::io::stdout().lock();
    for row in 0..ROWS {
        for logits in &logits {
            for x in &logits[row * vocabulary..(row + 1) * vocabulary] {
                out.write_all(&x.to_le_bytes())?;
            }
        }
    }
    Ok(())
}
