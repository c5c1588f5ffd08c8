//! The weights as the kernels read them: one arena of lines, packed once, checked to be finite.

use crate::arena::Arena;
use crate::config::Config;
use crate::dtype::{ACROSS, Dtype, PANEL, pack, read};
use crate::error::{Error, Result};
use crate::linear::{Linear, NEAR};
use crate::tensors::{Tensor, Tensors};
use fastdecode_simd::{DisjointSlice, LANES, Lanes, Level, Line, Session, kernel};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a linear layer lies in the arena.
#[derive(Debug, Clone)]
struct LinearPlace {
    weights: Range<usize>,
    /// Empty, but for int8.
    scales: Range<usize>,
    bias: Range<usize>,
    inputs: usize,
    outputs: usize,
}

/// Where a layer norm lies: the gains, then the biases, `inputs` rounded up to lines.
#[derive(Debug, Clone)]
pub struct NormPlace(Range<usize>);

/// One block of the model.
#[derive(Debug, Clone)]
pub struct Block {
    /// Before attention.
    pub norm_1: NormPlace,
    qkv: LinearPlace,
    out: LinearPlace,
    /// Before the MLP.
    pub norm_2: NormPlace,
    up: LinearPlace,
    down: LinearPlace,
}

/// All weights of a model.
pub struct Weights {
    arena: Arena,
    positions: Range<usize>,
    blocks: Vec<Block>,
    norm: NormPlace,
    head: LinearPlace,
    width: usize,
    dtype: Dtype,
}

/// One linear layer of a block.
#[derive(Debug, Clone, Copy)]
pub enum Layer {
    /// To queries, keys and values.
    Qkv,
    /// From the heads back to the stream.
    Out,
    /// Into the MLP.
    Up,
    /// Out of it.
    Down,
}

/// What is to be copied where, found and checked before any memory is taken.
struct Plan<'a> {
    tensors: &'a Tensors<'a>,
    dtype: Dtype,
    lines: usize,
    copies: Vec<Copy<'a>>,
}

struct Copy<'a> {
    name: String,
    tensor: &'a Tensor<'a>,
    to: Range<usize>,
    scales: Range<usize>,
    form: Form,
}

/// How a tensor becomes lines.
#[derive(Clone, Copy)]
enum Form {
    /// As it is, each row of `width` floats filled up with zeros.
    Rows { width: usize },
    /// Panels of a matrix of shape (inputs, outputs).
    Panels { inputs: usize, outputs: usize },
    /// Panels of a matrix of shape (outputs, inputs).
    Transposed { inputs: usize, outputs: usize },
}

impl Plan<'_> {
    fn take(&mut self, lines: usize) -> Range<usize> {
        let start = self.lines;
        self.lines = start.saturating_add(lines);
        start..self.lines
    }

    fn add(
        &mut self,
        name: String,
        shape: &[usize],
        lines: usize,
        form: Form,
    ) -> Result<Range<usize>> {
        let tensor = self.tensors.get(&name, shape)?;
        let to = self.take(lines);
        self.copies.push(Copy { name, tensor, to: to.clone(), scales: 0..0, form });
        Ok(to)
    }

    fn vector(&mut self, name: String, width: usize, lines: usize) -> Result<Range<usize>> {
        self.add(name, &[width], lines, Form::Rows { width })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<NormPlace> {
        let lines = width.div_ceil(LANES);
        let gain = self.vector(format!("{name}.weight"), width, lines)?;
        let bias = self.vector(format!("{name}.bias"), width, lines)?;
        Ok(NormPlace(gain.start..bias.end))
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<LinearPlace> {
        let (weights, scales) = self.panels(
            format!("{name}.weight"),
            &[inputs, outputs],
            Form::Panels { inputs, outputs },
        )?;
        let lines = outputs.div_ceil(PANEL) * ACROSS;
        let bias = self.vector(format!("{name}.bias"), outputs, lines)?;
        Ok(LinearPlace { weights, scales, bias, inputs, outputs })
    }

    fn panels(
        &mut self,
        name: String,
        shape: &[usize],
        form: Form,
    ) -> Result<(Range<usize>, Range<usize>)> {
        let (Form::Panels { inputs, outputs } | Form::Transposed { inputs, outputs }) = form else {
            unreachable!("rows are no panels");
        };
        let panels = outputs.div_ceil(PANEL);
        let lines = panels.saturating_mul(self.dtype.panel_lines(inputs));
        let weights = self.add(name, shape, lines, form)?;
        let scales = self.take(if self.dtype == Dtype::Int8 { panels * ACROSS } else { 0 });
        if let Some(copy) = self.copies.last_mut() {
            copy.scales = scales.clone();
        }
        Ok((weights, scales))
    }
}

impl Weights {
    /// Packs the tensors of a GPT-2.
    ///
    /// # Errors
    /// For a tensor that is missing, or has another shape or type, or a value that is not finite.
    /// Shapes are checked first, so that what is allocated is bounded by what is there.
    pub fn pack(
        config: &Config,
        tensors: &Tensors<'_>,
        dtype: Dtype,
        session: &mut Session<'_>,
    ) -> Result<Self> {
        let width = config.n_embd;
        let mut plan = Plan { tensors, dtype, lines: 0, copies: Vec::new() };
        let mut blocks = Vec::new();
        for index in 0..config.n_layer {
            let name = |part: &str| format!("h.{index}.{part}");
            blocks.push(Block {
                norm_1: plan.norm(&name("ln_1"), width)?,
                qkv: plan.linear(&name("attn.c_attn"), width, 3 * width)?,
                out: plan.linear(&name("attn.c_proj"), width, width)?,
                norm_2: plan.norm(&name("ln_2"), width)?,
                up: plan.linear(&name("mlp.c_fc"), width, config.inner())?,
                down: plan.linear(&name("mlp.c_proj"), config.inner(), width)?,
            });
        }
        let norm = plan.norm("ln_f", width)?;
        let outputs = config.vocab_size;
        let (weights, scales) = plan.panels(
            "wte.weight".into(),
            &[outputs, width],
            Form::Transposed { inputs: width, outputs },
        )?;
        // Nothing is copied there: a new mapping is zeros.
        let bias = plan.take(outputs.div_ceil(PANEL) * ACROSS);
        let head = LinearPlace { weights, scales, bias, inputs: width, outputs };
        let positions = plan.add(
            "wpe.weight".into(),
            &[config.n_positions, width],
            config.n_positions * width.div_ceil(LANES),
            Form::Rows { width },
        )?;
        let mut arena = Arena::new(plan.lines)?;
        copy_all(tensors, &plan.copies, dtype, arena.lines_mut(), session)?;
        Ok(Self { arena, positions, blocks, norm, head, width, dtype })
    }

    /// Bytes that the weights take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// What the linear layers are stored as.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Reads all weights once, by all threads, and keeps only the largest of them: the bits of a float.
    #[must_use]
    pub fn read_once(&self, level: Level, session: &mut Session<'_>) -> u32 {
        let lines = self.arena.lines();
        let mut largest = vec![0.0; lines.len().div_ceil(STRIP)];
        let tasks = largest.len();
        let to = DisjointSlice::new(&mut largest);
        session.run(tasks, |task| {
            let strip = &lines[task * STRIP..lines.len().min((task + 1) * STRIP)];
            // SAFETY: an element is one task's.
            largest_of(level, strip, unsafe { &mut to.part(task..task + 1)[0] });
        });
        largest.into_iter().fold(0.0, f32::max).to_bits()
    }

    /// The model's blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// A linear layer.
    #[must_use]
    pub fn linear(&self, block: &Block, layer: Layer) -> Linear<'_> {
        self.view(match layer {
            Layer::Qkv => &block.qkv,
            Layer::Out => &block.out,
            Layer::Up => &block.up,
            Layer::Down => &block.down,
        })
    }

    /// The head: the embedding, transposed.
    #[must_use]
    pub fn head(&self) -> Linear<'_> {
        self.view(&self.head)
    }

    /// The last norm.
    #[must_use]
    pub fn last_norm(&self) -> &NormPlace {
        &self.norm
    }

    /// Gains and biases of a norm, in lines.
    #[must_use]
    pub fn norm(&self, place: &NormPlace) -> (&[Line], &[Line]) {
        let lines = &self.arena.lines()[place.0.clone()];
        lines.split_at(lines.len() / 2)
    }

    /// The embedding of a token at a position, written to `to`.
    pub fn embed(&self, token: usize, position: usize, to: &mut [f32]) {
        let lines = self.arena.lines();
        let row = self.width.div_ceil(LANES);
        let positions = &lines[self.positions.start + position * row..][..row];
        // Read from the head's panels, so that the embedding is in memory once.
        let (panel, output) = (token / PANEL, token % PANEL);
        let size = self.dtype.panel_lines(self.width);
        let weights = &lines[self.head.weights.start + panel * size..][..size];
        let scales = &lines[self.head.scales.clone()];
        let scales = scales.get(panel * ACROSS..(panel + 1) * ACROSS).unwrap_or_default();
        for (k, to) in to.iter_mut().enumerate() {
            let x = read(self.dtype, weights, scales, k, output);
            *to = x + positions[k / LANES].0[k % LANES];
        }
    }

    fn view(&self, place: &LinearPlace) -> Linear<'_> {
        let lines = self.arena.lines();
        Linear {
            dtype: self.dtype,
            scales: &lines[place.scales.clone()],
            weights: &lines[place.weights.clone()],
            bias: &lines[place.bias.clone()],
            inputs: place.inputs,
            outputs: place.outputs,
        }
    }
}

kernel! {
    fn largest_of(lines: &[Line], to: &mut f32) = largest_body;
}

/// Nothing but loads, with the hints that a step of one row gives.
#[inline(always)]
fn largest_body<L: Lanes>(l: L, lines: &[Line], to: &mut f32) {
    let mut largest = [l.splat(0.0); 4];
    for four in lines.as_chunks::<4>().0 {
        let ahead = four.as_ptr().wrapping_add(NEAR);
        l.prefetch_l2(ahead);
        l.prefetch_l2(ahead.wrapping_add(2));
        for (largest, line) in largest.iter_mut().zip(four) {
            *largest = l.max(l.load(&line.0), *largest);
        }
    }
    let mut of_all = largest[0];
    for other in &largest[1..] {
        of_all = l.max(of_all, *other);
    }
    *to = l.largest(of_all);
}

/// Lines of a task of the copy.
const STRIP: usize = 1 << 12;
/// Strips that are copied before the pages that they came from are given back: the file is never
/// all in memory beside the arena.
const WAVE: usize = 16;

fn copy_all(
    tensors: &Tensors<'_>,
    copies: &[Copy<'_>],
    dtype: Dtype,
    lines: &mut [Line],
    session: &mut Session<'_>,
) -> Result<()> {
    // Strips of whole panels or rows, so that tasks are small and disjoint.
    let mut strips = Vec::new();
    for (index, copy) in copies.iter().enumerate() {
        let unit = match copy.form {
            Form::Rows { width } => width.div_ceil(LANES),
            Form::Panels { inputs, .. } | Form::Transposed { inputs, .. } => {
                dtype.panel_lines(inputs)
            }
        };
        let units = match copy.form {
            // One row for a vector, whose other lines fill up the panels of its layer.
            Form::Rows { width } => copy.tensor.shape.iter().product::<usize>() / width,
            Form::Panels { outputs, .. } | Form::Transposed { outputs, .. } => {
                outputs.div_ceil(PANEL)
            }
        };
        let step = (STRIP / unit).max(1);
        for first in (0..units).step_by(step) {
            strips.push((index, unit, first..units.min(first + step)));
        }
    }
    let broken: Vec<AtomicBool> = copies.iter().map(|_| AtomicBool::new(false)).collect();
    let parts = DisjointSlice::new(lines);
    let copy_strip = |(index, unit, units): &(usize, usize, Range<usize>)| {
        let copy = &copies[*index];
        let start = copy.to.start + units.start * unit;
        // SAFETY: strips do not overlap, and each is one task's.
        let to = unsafe { parts.part(start..start + units.len() * unit) };
        let scales = if copy.scales.is_empty() {
            0..0
        } else {
            copy.scales.start + units.start * ACROSS..copy.scales.start + units.end * ACROSS
        };
        // SAFETY: they lie beside the weights, and those of a panel belong to its strip.
        let scales = unsafe { parts.part(scales) };
        let mut scratch = Vec::new();
        let mut scales = scales.chunks_exact_mut(ACROSS);
        for (n, to) in units.clone().zip(to.chunks_exact_mut(*unit)) {
            read_unit(copy, n, &mut scratch);
            if !scratch.iter().copied().all(f32::is_finite) {
                broken[*index].store(true, Ordering::Relaxed);
            }
            if let Form::Rows { .. } = copy.form {
                for (line, row) in to.iter_mut().zip(scratch.chunks(LANES)) {
                    line.0[..row.len()].copy_from_slice(row);
                }
            } else {
                pack(dtype, &scratch, to, scales.next().unwrap_or_default());
            }
        }
    };
    for wave in strips.chunks(WAVE) {
        session.run(wave.len(), |i| copy_strip(&wave[i]));
        for copy in &copies[wave[0].0..=wave[wave.len() - 1].0] {
            tensors.forget(copy.tensor);
        }
    }
    match broken.iter().position(|b| b.load(Ordering::Relaxed)) {
        Some(index) => Err(Error::NotFinite { name: copies[index].name.clone() }),
        None => Ok(()),
    }
}

/// Row `n` of a tensor, or its panel `n`, 32 outputs for each input.
fn read_unit(copy: &Copy<'_>, n: usize, to: &mut Vec<f32>) {
    let elements = copy.tensor.elements;
    to.clear();
    match copy.form {
        Form::Rows { width } => {
            to.resize(width, 0.0);
            elements.read(n * width, to);
        }
        Form::Panels { inputs, outputs } => {
            to.resize(inputs * PANEL, 0.0);
            let first = n * PANEL;
            let width = PANEL.min(outputs - first);
            for (k, row) in to.chunks_exact_mut(PANEL).enumerate() {
                elements.read(k * outputs + first, &mut row[..width]);
            }
        }
        Form::Transposed { inputs, outputs } => {
            to.resize(inputs * PANEL, 0.0);
            let mut column = vec![0.0; inputs];
            for j in 0..PANEL.min(outputs - n * PANEL) {
                elements.read((n * PANEL + j) * inputs, &mut column);
                for (row, &x) in to.chunks_exact_mut(PANEL).zip(&column) {
                    row[j] = x;
                }
            }
        }
    }
}
