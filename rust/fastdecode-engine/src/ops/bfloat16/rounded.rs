//! Activations rounded to bfloat16.

use super::Instruction;
use crate::error::Result;
use crate::ops::row_blocks::RowBlocks;
use crate::weights::{CHAIN, PAIR, rounded_bits};
use fastdecode_simd::{DisjointSlice, Lanes, Level, Session, kernel, memory};

/// The rounded input of a linear layer.
#[derive(Default)]
pub struct Rounded {
    /// For the instruction, two inputs in a word, the first one in the upper half: word `pair * height + row`
    /// of a row block.
    words: Vec<u32>,
    /// For multiply-adds, in the places of the input.
    floats: Vec<f32>,
}

/// The rounded input, as the products take it.
#[derive(Clone, Copy)]
pub enum Operands<'a> {
    Words(Instruction, &'a [u32]),
    Floats(&'a [f32]),
}

impl Rounded {
    /// Room for row blocks of this number of rows, `inputs` wide.
    ///
    /// # Errors
    /// If the system refuses memory.
    pub fn reserve(&mut self, level: Level, rows: usize, inputs: usize) -> Result<()> {
        match Instruction::detect(level) {
            Some(_) => memory::room(&mut self.words, rows * inputs.div_ceil(PAIR)).map(|_| ())?,
            None => memory::room(&mut self.floats, rows * inputs).map(|_| ())?,
        }
        Ok(())
    }

    /// Rounds the row blocks `x`, `inputs` wide.
    ///
    /// # Panics
    /// If `x` has another size.
    pub fn fill(
        &mut self,
        level: Level,
        session: &mut Session<'_>,
        blocks: RowBlocks,
        x: &[f32],
        inputs: usize,
    ) {
        assert_eq!(x.len(), blocks.rows() * inputs);
        let stretches = inputs.div_ceil(CHAIN);
        // Rounding a single row takes less time than handing a part of it to another thread.
        let parts = if blocks.rows() < 2 { 1 } else { session.threads().min(stretches) };
        let pairs = inputs.div_ceil(PAIR);
        let instruction = Instruction::detect(level);
        // Never made shorter, because what is made longer again is cleared.
        if instruction.is_some() {
            self.words.resize(self.words.len().max(blocks.rows() * pairs), 0);
        } else {
            self.floats.resize(self.floats.len().max(x.len()), 0.0);
        }
        let words = DisjointSlice::new(&mut self.words);
        let floats = DisjointSlice::new(&mut self.floats);
        session.run(blocks.count() * parts, |task| {
            let (block, part) = (task / parts, task % parts);
            let rows = blocks.range(block);
            let height = rows.len();
            let place = |part: usize| inputs.min(part * stretches / parts * CHAIN);
            let (first, end) = (place(part), place(part + 1));
            let start = rows.start * inputs;
            let part = start + first * height..start + end * height;
            let x = &x[part.clone()];
            if let Some(instruction) = instruction {
                let start = rows.start * pairs;
                let (first, end) = (first / PAIR, end.div_ceil(PAIR));
                // SAFETY: this part of this row block belongs to this task alone; parts begin with a pair.
                let to = unsafe { words.part(start + first * height..start + end * height) };
                Instruction::words(instruction, x, height, to);
            } else {
                // SAFETY: as above.
                to_floats(level, x, unsafe { floats.part(part) });
            }
        });
    }

    /// What `fill` has rounded for the same level.
    pub fn operands(&self, level: Level) -> Operands<'_> {
        match Instruction::detect(level) {
            Some(instruction) => Operands::Words(instruction, &self.words),
            None => Operands::Floats(&self.floats),
        }
    }
}

kernel! {
    fn to_floats(x: &[f32], to: &mut [f32]) = floats_body;
}

#[inline(always)]
fn floats_body<L: Lanes>(_: L, x: &[f32], to: &mut [f32]) {
    for (to, x) in to.iter_mut().zip(x) {
        *to = f32::from_bits(rounded_bits(*x));
    }
}
