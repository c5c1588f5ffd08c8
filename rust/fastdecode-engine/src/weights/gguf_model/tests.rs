//! Matrices of GGUF files as they are packed, element by element.

#[path = "../../../tests/gguf/builder.rs"]
#[expect(dead_code, reason = "shared with tests of the container")]
mod builder;

use super::GgufModel;
use crate::gguf::{Encoding, Weight};
use crate::weights::{
    Format, Matrix, Orientation, PANEL, Packing, Part, Storage, Weights, element, parts,
};
use builder::{Builder, entry, string, tensor};
use fastdecode_simd::Pool;
use std::path::PathBuf;

const WIDTH: usize = 96;
/// Outputs of queries, keys and values. They have heads of 48, which are no whole panels.
const OUTPUTS: [usize; 3] = [96, 48, 48];
const NAMES: [&str; 3] = ["attn_q", "attn_k", "attn_v"];

/// Blocks of any bytes with small scales and offsets.
fn blocks(encoding: Encoding, count: usize, seed: usize) -> Vec<u8> {
    let (size, plain) = (encoding.block_bytes(), encoding.block_elements() == 1);
    let mut bytes = Vec::new();
    for block in 0..count {
        let byte = |i: usize| {
            let mixed = (seed * 1_000_003 + block * 7919 + i * 104_729) as u32;
            (mixed.wrapping_mul(2_654_435_761) >> 24) as u8
        };
        let mut block: Vec<u8> = (0..size).map(byte).collect();
        // Float16 or float32 of about 0.01, of both signs.
        for high in if plain { vec![size - 1] } else { vec![1, 3] } {
            block[high] = block[high] & 0x80 | if plain { 0x3C } else { 0x21 };
        }
        if encoding.name() == "Q6_K" {
            // It has its scale at the end.
            block[209] = 0x1A;
        }
        bytes.extend(block);
    }
    bytes
}

struct File {
    path: PathBuf,
    model: GgufModel,
}

impl File {
    fn new(encodings: [&str; 3]) -> Self {
        let number = |name: &str| match name {
            "F32" => 0u32,
            "Q4_0" => 2,
            "Q4_1" => 3,
            "Q5_0" => 6,
            "Q8_0" => 8,
            "Q6_K" => 14,
            "IQ4_NL" => 20,
            _ => panic!("{name}"),
        };
        let count = |value: u32| value.to_le_bytes();
        let mut file = Builder {
            version: 3,
            entries: vec![
                entry("general.architecture", 8, &string("llama")),
                entry("llama.embedding_length", 4, &count(WIDTH as u32)),
                entry("llama.attention.head_count", 4, &count(2)),
            ],
            tensors: vec![],
            alignment: 32,
            data: vec![],
        };
        // Blocks of 256 elements need wider inputs.
        let width = if encodings.contains(&"Q6_K") { 256 } else { WIDTH };
        for (i, (name, encoding)) in NAMES.iter().zip(encodings).enumerate() {
            let stored = Encoding::named(encoding).unwrap();
            let sizes = [width as u64, OUTPUTS[i] as u64];
            let name = format!("blk.0.{name}.weight");
            file.tensors.push(tensor(name, &sizes, number(encoding), file.data.len() as u64));
            let count = width * OUTPUTS[i] / stored.block_elements();
            file.data.extend(blocks(stored, count, i));
            file.data.resize(file.data.len().next_multiple_of(32), 0);
        }
        let name = format!("fastdecode-kept-{}-{}.gguf", encodings.join("-"), std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, file.bytes()).unwrap();
        let model = GgufModel::open(&path).unwrap();
        Self { path, model }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Queries, keys and values as one matrix, and what the reference says they are.
fn packed(file: &File, storage: Storage) -> (Weights, Matrix, Vec<f32>) {
    let found = file.model.weights().unwrap();
    let tensors = file.model.tensors(&found);
    let mut packing = Packing::new(&tensors, "model.", storage);
    let inputs = found[0].shape[1];
    let names = ["q", "k", "v"].map(|part| format!("layers.0.self_attn.{part}_proj.weight"));
    let all: Vec<Part> =
        names.iter().zip(OUTPUTS).map(|(name, rows)| Part::whole(name.clone(), rows)).collect();
    let matrix = packing.joined_matrix(&all, inputs, storage.format()).unwrap();
    let weights = packing.finish(&mut Pool::new().session(2)).unwrap();
    let mut expected = Vec::new();
    for name in names {
        let weight: &Weight<'_> = found.iter().find(|weight| weight.name.ends_with(&name)).unwrap();
        let mut x = vec![0.0; weight.elements()];
        weight.read(0, &mut x, &mut Vec::new()).unwrap();
        expected.extend(x);
    }
    (weights, matrix, expected)
}

/// All elements of a matrix, an output after the other.
fn elements(weights: &Weights, matrix: &Matrix) -> Vec<f32> {
    let view = weights.matrix(matrix);
    let size = view.format.panel_lines(view.inputs);
    let one = |i: usize| {
        let (output, k) = (i / view.inputs, i % view.inputs);
        let lines = &view.weights[output / PANEL * size..][..size];
        let scales = view.scales.get(output / PANEL * 2..).unwrap_or_default();
        element(view.format, lines, scales, k, output % PANEL)
    };
    (0..view.inputs * view.outputs).map(one).collect()
}

#[test]
fn kept_elements_are_the_reference_bit_for_bit() {
    for (encodings, format) in [
        (["Q4_0"; 3], Format::Int4),
        (["Q4_1"; 3], Format::Int4Offsets),
        (["Q8_0"; 3], Format::Int8Groups),
        (["Q5_0"; 3], Format::Int8Groups),
        (["IQ4_NL"; 3], Format::Int8Groups),
        (["Q4_0", "Q8_0", "IQ4_NL"], Format::Int8Groups),
        (["F32"; 3], Format::Float32),
        (["Q8_0", "F32", "Q4_1"], Format::Float32),
    ] {
        let file = File::new(encodings);
        let mut storages = vec![Storage::AsInFile];
        if format != Format::Float32 {
            storages.push(Storage::Kept(Format::Int8));
        }
        if matches!(format, Format::Int4 | Format::Int4Offsets) {
            storages.push(Storage::Kept(Format::Int4));
        }
        for storage in storages {
            let (weights, matrix, expected) = packed(&file, storage);
            assert_eq!(matrix.format, format, "{encodings:?}");
            for (i, (found, expected)) in
                elements(&weights, &matrix).iter().zip(expected).enumerate()
            {
                assert_eq!(found.to_bits(), expected.to_bits(), "{encodings:?} {storage:?} {i}");
            }
        }
    }
}

/// `Q4_0` has offsets of eight scales in int4 with offsets; a zero may get another sign.
#[test]
fn formats_that_differ_meet_in_one_that_holds_them() {
    let file = File::new(["Q4_0", "Q4_1", "Q4_0"]);
    for storage in [Storage::AsInFile, Storage::Kept(Format::Int8), Storage::Kept(Format::Int4)] {
        let (weights, matrix, expected) = packed(&file, storage);
        assert_eq!(matrix.format, Format::Int4Offsets);
        assert!(elements(&weights, &matrix) == expected);
    }
}

#[test]
fn what_no_format_holds_is_rounded_beside_what_is_kept() {
    for (encodings, storage, format) in [
        (["Q8_0", "Q4_1", "Q4_0"], Storage::AsInFile, Format::Int8Groups),
        (["Q6_K"; 3], Storage::AsInFile, Format::Int8Groups),
        (["Q8_0", "F32", "Q4_0"], Storage::Kept(Format::Int8), Format::Int8Groups),
        (["Q4_1", "F32", "Q8_0"], Storage::Kept(Format::Int4), Format::Int4Offsets),
        (["Q4_0", "F32", "Q8_0"], Storage::Kept(Format::Int4), Format::Int4),
    ] {
        let file = File::new(encodings);
        let (weights, matrix, expected) = packed(&file, storage);
        assert_eq!(matrix.format, format, "{encodings:?} {storage:?}");
        let found = elements(&weights, &matrix);
        let view = weights.matrix(&matrix);
        let size = format.panel_lines(view.inputs);
        let whole = encodings.iter().zip(OUTPUTS).flat_map(|(encoding, rows)| {
            let encoding = Encoding::named(encoding).unwrap();
            std::iter::repeat_n(super::super::format::Block::keeps(format, encoding), rows)
        });
        for (output, kept) in whole.enumerate() {
            for k in 0..view.inputs {
                let i = output * view.inputs + k;
                let lines = &view.weights[output / PANEL * size..][..size];
                let (_, scale, _) = parts(format, lines, k, output % PANEL);
                let most = if kept { 0.0 } else { 1.1 * scale.abs() };
                assert!((found[i] - expected[i]).abs() <= most, "{encodings:?} {output} {k}");
            }
        }
    }
}

#[test]
fn scales_that_are_not_finite_are_refused_by_the_name_of_the_tensor() {
    for (encodings, bad) in [(["Q8_0"; 3], 1), (["Q4_1"; 3], 3), (["Q4_1", "Q4_1", "Q4_0"], 1)] {
        let file = File::new(encodings);
        let mut bytes = std::fs::read(&file.path).unwrap();
        let start =
            bytes.len() - file.model.gguf().tensors().map(|t| t.bytes()).sum::<u64>() as usize;
        bytes[start + bad] = 0x7C;
        std::fs::write(&file.path, &bytes).unwrap();
        let damaged = GgufModel::open(&file.path).unwrap();
        let found = damaged.weights().unwrap();
        let tensors = damaged.tensors(&found);
        let mut packing = Packing::new(&tensors, "model.", Storage::AsInFile);
        let name = "layers.0.self_attn.q_proj.weight";
        let rows = Orientation::OutputsByInputs;
        packing.matrix(name, rows, [WIDTH, OUTPUTS[0]], Format::Float32).unwrap();
        let error = packing.finish(&mut Pool::new().session(1)).err().unwrap().to_string();
        assert!(
            error.contains("self_attn.q_proj.weight\" has values that are not finite"),
            "{error}"
        );
    }
}
