//! Packed files: a model as the kernels read it, with everything that is needed to run it.
//!
//! A packed file begins with a line of 64 bytes, little-endian:
//!
//! | bytes | contents |
//! |---|---|
//! | 0..8 | `FDPACKED` |
//! | 8..12 | the version of the layout, [`LAYOUT`] |
//! | 12..16 | zeros |
//! | 16..24 | the length of the whole file |
//! | 24..32 | the length of the header |
//! | 32..48 | the checksum of bytes 0..32 and the header |
//! | 48..64 | zeros |
//!
//! The header follows, in JSON: the number format and its definition, what the model was packed from, the
//! files that travel with it (its `config.json`, and whatever the caller adds), and where each vector, table
//! and matrix lies. Then come those files, and from a multiple of 4096 bytes on the weights, line by line as
//! they lie in memory. Checksums are XXH3 of 128 bits: they find damage, and do not prove who wrote a file.
//!
//! Nothing in a file is trusted. Every place is bounded by the file's size before memory is taken for it, the
//! architecture decides again what lies where, and a file that says something else is refused. It is read,
//! never mapped: another process may cut it at any time, which is then an error and no signal.

mod header;
mod reading;
mod writing;

pub use reading::PackedFile;
pub use writing::Packed;

/// The version of the layout. Raise it with every change of how a file or the panels in it are laid out, and
/// of the order in which an architecture asks for its tensors; a new definition of a number format needs
/// nothing here.
pub const LAYOUT: u32 = 1;

/// The first bytes of a packed file.
const MAGIC: [u8; 8] = *b"FDPACKED";
/// Bytes before the header.
const BEFORE: usize = 64;
/// Bytes that the checksum of the header begins with.
const COVERED: usize = 32;
/// Weights begin at a multiple of this, a page.
const ALIGNMENT: u64 = 4096;
/// The file in it that has the configuration.
const CONFIG: &str = "config.json";

/// The first line of a file.
fn beginning(length: u64, header: &[u8]) -> [u8; BEFORE] {
    let mut line = [0; BEFORE];
    line[..8].copy_from_slice(&MAGIC);
    line[8..12].copy_from_slice(&LAYOUT.to_le_bytes());
    line[16..24].copy_from_slice(&length.to_le_bytes());
    line[24..32].copy_from_slice(&(header.len() as u64).to_le_bytes());
    let mut checksum = xxhash_rust::xxh3::Xxh3::new();
    checksum.update(&line[..COVERED]);
    checksum.update(header);
    line[COVERED..COVERED + 16].copy_from_slice(&checksum.digest128().to_le_bytes());
    line
}
