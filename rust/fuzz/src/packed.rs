//! What the target of packed files checks for a string of bytes: that no file panics, or takes memory that its
//! size does not explain; and that a model which loads also runs.

use crate::running::{place, run};
use crate::smallest::{SMALLEST, smallest};
use fastdecode_engine::{Config, Format, Level, Model, PackedFile, Tensors};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where the files within a file begin where its header is made here: it is padded up to this.
const HEADER: usize = 8192;
/// Where the weights begin then.
const WEIGHTS: usize = HEADER + 4096;

/// The file of the smallest model.
#[must_use]
pub fn good(format: Format) -> Vec<u8> {
    with_config(format, SMALLEST)
}

/// The same with another text in the place of the configuration.
#[must_use]
pub fn with_config(format: Format, text: &str) -> Vec<u8> {
    let (weights, bytes) = (smallest(), SMALLEST.as_bytes());
    let config = Config::from_json(bytes, Path::new("config.json")).expect("a configuration");
    let tensors = Tensors::from_safetensors(&weights).expect("a file of weights");
    let model = Model::with(config, &tensors, format, Level::detect(), 1).expect("a model");
    let packed = model.pack("", &[("config.json", text.as_bytes())]).expect("a packed file");
    let mut file = Vec::new();
    packed.write(&mut file).expect("memory");
    file
}

/// The file of the smallest model with a change of its header, whose places are then still the same.
#[must_use]
pub fn with_header(format: Format, change: impl FnOnce(&str) -> String) -> Vec<u8> {
    let file = good(format);
    let length = file[24..32].first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let text = std::str::from_utf8(&file[64..64 + length as usize]).expect("a header");
    let mut starts = text.match_indices("\"start\":").map(|(at, name)| at + name.len());
    let number = |at: usize| at + text[at..].find(',').unwrap_or(0);
    let (first, second) = (starts.next().unwrap_or(0), starts.next().unwrap_or(0));
    let weights: usize = text[second..number(second)].parse().expect("a number");
    let text = format!(
        "{}{HEADER}{}{WEIGHTS}{}",
        &text[..first],
        &text[number(first)..second],
        &text[number(second)..]
    );
    made(&change(text.trim_end()), &file[weights..])
}

/// A file with this header, under its right checksum, and nothing else.
#[must_use]
pub fn of_header(header: &str) -> Vec<u8> {
    begun(header, 0)
}

/// A file with this header, the smallest model's configuration, and these weights.
fn made(header: &str, weights: &[u8]) -> Vec<u8> {
    let padded = format!("{header:width$}", width = HEADER - 64);
    let mut file = begun(&padded, WEIGHTS + weights.len() - HEADER);
    file.resize(HEADER.max(file.len()), 0);
    file.extend_from_slice(SMALLEST.as_bytes());
    file.resize(WEIGHTS.max(file.len()), 0);
    file.extend_from_slice(weights);
    file
}

/// The first line and the header of a file that has `more` bytes after them.
fn begun(header: &str, more: usize) -> Vec<u8> {
    let mut line = *b"FDPACKED\x01\0\0\0\0\0\0\0________________________________________________";
    line[16..24].copy_from_slice(&((64 + header.len() + more) as u64).to_le_bytes());
    line[24..32].copy_from_slice(&(header.len() as u64).to_le_bytes());
    let mut checksum = xxhash_rust::xxh3::Xxh3::new();
    checksum.update(&line[..32]);
    checksum.update(header.as_bytes());
    line[32..48].copy_from_slice(&checksum.digest128().to_le_bytes());
    line[48..].fill(0);
    [&line, header.as_bytes()].concat()
}

/// What the target begins with: whole files, and headers with the format that the weights after them have.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, format) in Format::ALL.into_iter().enumerate() {
        seeds.push([&[0], good(format).as_slice()].concat());
        let file = with_header(format, str::to_owned);
        let header = file[64..HEADER].trim_ascii_end();
        seeds.push([&[2 * index as u8 + 1], header].concat());
    }
    seeds
}

/// Any bytes as a packed file. An odd byte at the front says that a header follows, which gets its right
/// checksum, and weights after it: otherwise any change is found by the checksum alone.
pub fn packed(data: &[u8]) {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| place("packed"));
    let Some((&kind, rest)) = data.split_first() else { return };
    let file = if kind % 2 == 0 {
        rest.to_vec()
    } else {
        let Ok(header) = std::str::from_utf8(rest) else { return };
        let format = Format::ALL[usize::from(kind / 2) % Format::ALL.len()];
        let whole = good(format);
        let length = Model::from_packed(&opened(&FILE, &whole).expect("a good file"))
            .map_or(0, |model| model.weights_as_bytes().len());
        made(header, &whole[whole.len() - length..])
    };
    let Some(found) = opened(&FILE, &file) else { return };
    for name in found.names() {
        if let Ok(bytes) = found.read(name) {
            assert!(bytes.len() <= file.len());
        }
    }
    let _ = found.check();
    if let Ok(model) = Model::from_packed(&found) {
        assert!(model.bytes() <= file.len());
        run(&model, file.len());
    }
}

fn opened(path: &Path, bytes: &[u8]) -> Option<PackedFile> {
    std::fs::write(path, bytes).expect("a file");
    PackedFile::open(path).ok()
}
