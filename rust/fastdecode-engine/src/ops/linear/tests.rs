use super::{Output, apply};
use crate::ops::converted::Converted;
use crate::ops::panel::Operands;
use crate::ops::row_blocks::RowBlocks;
use crate::weights::{
    ACROSS, CHAIN, Format, GROUP, MatrixView, PANEL, element, pack, parts, rounded_bits, scale_of,
};
use fastdecode_core::philox::philox4x32;
use fastdecode_simd::{Level, Line, Pool};
use proptest::prelude::*;

struct Layer {
    format: Format,
    inputs: usize,
    outputs: usize,
    weights: Vec<Line>,
    scales: Vec<Line>,
    bias: Vec<Line>,
}

fn noise(i: usize, source: u32) -> f32 {
    (philox4x32([i as u32, source, 0, 0], [3, 4])[0] >> 8) as f32 / (1 << 23) as f32 - 1.0
}

impl Layer {
    fn new(format: Format, inputs: usize, outputs: usize) -> Self {
        let panels = outputs.div_ceil(PANEL);
        let size = format.panel_lines(inputs);
        let mut weights = vec![Line::ZERO; panels * size];
        let mut scales = vec![Line::ZERO; panels * ACROSS];
        for (panel, (to, scales)) in
            weights.chunks_mut(size).zip(scales.chunks_mut(ACROSS)).enumerate()
        {
            let x: Vec<f32> = (0..inputs * PANEL).map(|i| noise(i, panel as u32)).collect();
            pack(format, &x, to, scales);
        }
        let bias = (0..panels * ACROSS)
            .map(|line| Line(std::array::from_fn(|i| noise(line * 16 + i, 1000))))
            .collect();
        Self { format, inputs, outputs, weights, scales, bias }
    }

    fn run(&self, level: Level, threads: usize, x: &[f32], rows: usize) -> Vec<f32> {
        let blocks = RowBlocks::new(rows);
        let mut packed = vec![0.0; rows * self.inputs];
        for block in 0..blocks.count() {
            let range = blocks.range(block);
            for row in range.clone() {
                for k in 0..self.inputs {
                    let at = range.start * self.inputs + k * range.len() + row - range.start;
                    packed[at] = x[row * self.inputs + k];
                }
            }
        }
        let matrix = MatrixView {
            format: self.format,
            weights: &self.weights,
            scales: if self.format.scales() > 0 { &self.scales } else { &[] },
            inputs: self.inputs,
            outputs: self.outputs,
        };
        let operands = Operands { matrix, bias: &self.bias };
        let mut y = vec![0.0; rows * self.outputs];
        let (pool, converted) = (Pool::new(), &mut Converted::default());
        let session = &mut pool.session(threads);
        apply(operands, level, session, blocks, &packed, converted, Output::Rows(&mut y));
        y
    }

    /// One output as it is defined, step by step.
    fn plain(&self, x: &[f32], output: usize) -> f32 {
        let size = self.format.panel_lines(self.inputs);
        let (panel, lane) = (output / PANEL, output % PANEL);
        let lines = &self.weights[panel * size..(panel + 1) * size];
        let scales = &self.scales[panel * ACROSS..(panel + 1) * ACROSS];
        let ones = [Line([1.0; 16]); ACROSS];
        let bias = self.bias[output / 16].0[output % 16];
        let mut sum = 0.0f32;
        for (stretch, x) in x.chunks(CHAIN).enumerate() {
            let first = stretch * CHAIN;
            let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            let (scale, inverse) = scale_of(largest);
            if self.format.has_groups() {
                let mut total = 0.0f32;
                for (group, x) in x.chunks(GROUP).enumerate() {
                    let (mut dot, mut sum) = (0, 0);
                    let at = first + group * GROUP;
                    for (i, x) in x.iter().enumerate() {
                        let x = (x * inverse).round_ties_even() as i32;
                        dot += parts(self.format, lines, at + i, lane).0 * x;
                        sum += x;
                    }
                    let (_, of_weights, offset) = parts(self.format, lines, at, lane);
                    total = (dot as f32).mul_add(of_weights, total);
                    if self.format == Format::Int4Offsets {
                        total = (sum as f32).mul_add(offset, total);
                    }
                }
                sum = total.mul_add(scale, sum);
            } else if self.format == Format::Int8 {
                let dot: i64 = x
                    .iter()
                    .enumerate()
                    .map(|(i, x)| {
                        let w = element(self.format, lines, &ones, first + i, lane) as i64;
                        w * (x * inverse).round_ties_even() as i64
                    })
                    .sum();
                sum = (dot as f32).mul_add(scale, sum);
            } else {
                let chain = x.iter().enumerate().fold(0.0f32, |sum, (i, x)| {
                    let rounds = self.format == Format::BFloat16;
                    let x = if rounds { f32::from_bits(rounded_bits(*x)) } else { *x };
                    x.mul_add(element(self.format, lines, scales, first + i, lane), sum)
                });
                sum = if stretch == 0 { chain } else { sum + chain };
            }
        }
        if self.format == Format::Int8 {
            sum.mul_add(scales[lane / 16].0[lane % 16], bias)
        } else {
            sum + bias
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_level_and_number_of_threads_gives_the_bits_of_the_definition(
        rows in 1usize..64,
        inputs in 1usize..400,
        outputs in 1usize..80,
        format in prop::sample::select([&Format::ALL[..], &Format::OF_FILES].concat()),
    ) {
        let layer = Layer::new(format, inputs, outputs);
        let x: Vec<f32> = (0..rows * inputs).map(|i| noise(i, 2000) * 3.0).collect();
        let expected: Vec<u32> = x
            .chunks(inputs)
            .flat_map(|x| (0..outputs).map(|output| layer.plain(x, output).to_bits()))
            .collect();
        for level in Level::available() {
            for threads in [1, 2] {
                let found = layer.run(level, threads, &x, rows);
                let found: Vec<u32> = found.into_iter().map(f32::to_bits).collect();
                prop_assert_eq!(&found, &expected, "{:?}", level);
            }
        }
    }
}

#[test]
fn integers_at_their_ends_do_not_overflow() {
    for level in Level::available() {
        let formats = [Format::Int8, Format::Int4, Format::Int4Offsets, Format::Int8Groups];
        for (format, sign) in formats.into_iter().flat_map(|format| [(format, 1.0), (format, -1.0)])
        {
            let (inputs, outputs) = (3072, 32);
            let mut layer = Layer::new(format, inputs, outputs);
            pack(format, &vec![sign; inputs * PANEL], &mut layer.weights, &mut layer.scales);
            layer.bias.fill(Line::ZERO);
            let y = layer.run(level, 1, &vec![-2.0; inputs], 1);
            assert!(y.iter().all(|y| (y / (-2.0 * sign * 3072.0) - 1.0).abs() < 1e-3));
        }
    }
}

/// Bytes and nibbles of all ones or zeros, which a file may have, and which no quantiser gives.
#[test]
fn every_integer_of_a_file_is_multiplied_exactly() {
    let (inputs, outputs) = (416, 32);
    let x: Vec<f32> = (0..inputs).map(|i| if i % 3 == 0 { -127.0 } else { 127.0 }).collect();
    for format in [Format::Int4, Format::Int4Offsets, Format::Int8Groups] {
        for (byte, half) in [(0x00, 0x3C00u32), (0xFF, 0x3C00), (0x80, 0xBC00), (0x7F, 0x4000)] {
            let mut layer = Layer::new(format, inputs, outputs);
            let size = format.panel_lines(GROUP);
            let integers = size - 1 - usize::from(format == Format::Int4Offsets);
            for group in layer.weights.chunks_mut(size) {
                let (bytes, halves) = group.split_at_mut(integers);
                for line in bytes {
                    line.bytes_mut().fill(byte);
                }
                for line in halves {
                    line.words_mut().fill(half << 16 | half);
                }
            }
            let expected: Vec<f32> = (0..outputs).map(|output| layer.plain(&x, output)).collect();
            for level in Level::available() {
                assert_eq!(layer.run(level, 1, &x, 1), expected, "{format:?} {byte} {level:?}");
                let (rows, together) = (7, x.repeat(7));
                assert_eq!(layer.run(level, 1, &together, rows), expected.repeat(7), "{format:?}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_its_own_row() {
    for level in Level::available() {
        for format in Format::ALL.into_iter().chain(Format::OF_FILES) {
            for bad in [f32::NAN, f32::INFINITY] {
                let (rows, inputs) = (14, 130);
                let layer = Layer::new(format, inputs, 40);
                let mut x: Vec<f32> = (0..rows * inputs).map(|i| noise(i, 5)).collect();
                x[5 * inputs + 129] = bad;
                let y = layer.run(level, 2, &x, rows);
                for (row, y) in y.chunks(40).enumerate() {
                    assert!(y.iter().all(|y| y.is_finite() == (row != 5)), "{format:?} {row}");
                }
            }
        }
    }
}

#[test]
fn values_too_small_for_a_scale_are_zeros() {
    let layer = Layer::new(Format::Int8, 40, 32);
    let y = layer.run(Level::detect(), 1, &[1e-38; 40], 1);
    assert_eq!(y, layer.bias.iter().flat_map(|line| line.0).collect::<Vec<_>>());
}
