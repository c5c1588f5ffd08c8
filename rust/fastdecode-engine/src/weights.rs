//! The weights as the kernels read them: one arena of lines, packed once, checked to be finite.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::lanes::{LANES, Line};
use crate::linear::{Linear, PANEL};
use crate::parts::Parts;
use crate::pool::Session;
use crate::tensors::{Tensor, Tensors};
use memmap2::MmapMut;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a linear layer lies in the arena.
#[derive(Debug, Clone)]
struct LinearPlace {
    weights: Range<usize>,
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

/// Anonymous memory in large pages where the system has them: with small ones a step loses time in
/// finding them.
struct Arena(MmapMut);

impl Arena {
    fn new(lines: usize) -> Result<Self> {
        let bytes = lines.saturating_mul(size_of::<Line>());
        let refused = |source| Error::Memory { bytes, source };
        let map = MmapMut::map_anon(bytes.min(isize::MAX.cast_unsigned())).map_err(refused)?;
        #[cfg(target_os = "linux")]
        // Advice; a system without large pages refuses it, and all works as before.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }

    fn lines(&self) -> &[Line] {
        // SAFETY: the mapping begins at a page, any bytes are a Line, it is borrowed as long as
        // the result, and the division leaves out what is no whole line.
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() / size_of::<Line>())
        }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.0.as_mut_ptr().cast(),
                self.0.len() / size_of::<Line>(),
            )
        }
    }
}

/// What is to be copied where, found and checked before any memory is taken.
struct Plan<'a> {
    tensors: &'a Tensors<'a>,
    lines: usize,
    copies: Vec<Copy<'a>>,
}

struct Copy<'a> {
    name: String,
    tensor: &'a Tensor<'a>,
    to: Range<usize>,
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
        self.copies.push(Copy { name, tensor, to: to.clone(), form });
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
        let panels = outputs.div_ceil(PANEL);
        let weights = self.add(
            format!("{name}.weight"),
            &[inputs, outputs],
            panels * inputs * (PANEL / LANES),
            Form::Panels { inputs, outputs },
        )?;
        let bias = self.vector(format!("{name}.bias"), outputs, panels * (PANEL / LANES))?;
        Ok(LinearPlace { weights, bias, inputs, outputs })
    }
}

impl Weights {
    /// Packs the tensors of a GPT-2.
    ///
    /// # Errors
    /// For a tensor that is missing, or has another shape or type, or a value that is not finite.
    /// Shapes are checked first, so that what is allocated is bounded by what is there.
    pub fn pack(config: &Config, tensors: &Tensors<'_>, session: &mut Session<'_>) -> Result<Self> {
        let width = config.n_embd;
        let mut plan = Plan { tensors, lines: 0, copies: Vec::new() };
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
        let panels = config.vocab_size.div_ceil(PANEL);
        let head = LinearPlace {
            weights: plan.add(
                "wte.weight".into(),
                &[config.vocab_size, width],
                panels * width * (PANEL / LANES),
                Form::Transposed { inputs: width, outputs: config.vocab_size },
            )?,
            // Nothing is copied there: a new mapping is zeros.
            bias: plan.take(panels * (PANEL / LANES)),
            inputs: width,
            outputs: config.vocab_size,
        };
        let positions = plan.add(
            "wpe.weight".into(),
            &[config.n_positions, width],
            config.n_positions * width.div_ceil(LANES),
            Form::Rows { width },
        )?;
        let mut arena = Arena::new(plan.lines)?;
        copy_all(&plan.copies, arena.lines_mut(), session)?;
        Ok(Self { arena, positions, blocks, norm, head, width })
    }

    /// Bytes that the weights take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.0.len()
    }

    /// The sum of all weights in some order, read by all threads at once.
    #[must_use]
    pub fn read_once(&self, session: &mut Session<'_>) -> f32 {
        let lines = self.arena.lines();
        let tasks = lines.len().div_ceil(STRIP);
        let mut sums = vec![0.0; tasks];
        let to = Parts::new(&mut sums);
        session.run(tasks, |task| {
            let mut sum = [[0.0; LANES]; 4];
            let strip = &lines[task * STRIP..lines.len().min((task + 1) * STRIP)];
            for four in strip.as_chunks::<4>().0 {
                for (sum, line) in sum.iter_mut().zip(four) {
                    for (sum, x) in sum.iter_mut().zip(line.0) {
                        *sum += x;
                    }
                }
            }
            // SAFETY: an element is one task's.
            unsafe { to.part(task..task + 1)[0] = sum.as_flattened().iter().sum() };
        });
        sums.iter().sum()
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
        let across = PANEL / LANES;
        let panel = &lines[self.head.weights.start + token / PANEL * across * self.width..];
        let (vector, lane) = (token % PANEL / LANES, token % LANES);
        for (k, to) in to.iter_mut().enumerate() {
            *to = panel[k * across + vector].0[lane] + positions[k / LANES].0[k % LANES];
        }
    }

    fn view(&self, place: &LinearPlace) -> Linear<'_> {
        let lines = self.arena.lines();
        Linear {
            weights: &lines[place.weights.clone()],
            bias: &lines[place.bias.clone()],
            inputs: place.inputs,
            outputs: place.outputs,
        }
    }
}

/// Lines of a task of the copy.
const STRIP: usize = 1 << 12;

fn copy_all(copies: &[Copy<'_>], lines: &mut [Line], session: &mut Session<'_>) -> Result<()> {
    // Strips of whole panels or rows, so that tasks are small and disjoint.
    let mut strips = Vec::new();
    for (index, copy) in copies.iter().enumerate() {
        let unit = match copy.form {
            Form::Rows { width } => width.div_ceil(LANES),
            Form::Panels { inputs, .. } | Form::Transposed { inputs, .. } => {
                inputs * (PANEL / LANES)
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
    let parts = Parts::new(lines);
    session.run(strips.len(), |i| {
        let (index, unit, units) = &strips[i];
        let copy = &copies[*index];
        let start = copy.to.start + units.start * unit;
        // SAFETY: strips do not overlap, and each is one task's.
        let to = unsafe { parts.part(start..start + units.len() * unit) };
        for (n, to) in units.clone().zip(to.chunks_exact_mut(*unit)) {
            copy_unit(copy, n, to);
        }
        if !to.iter().flat_map(|line| line.0).all(f32::is_finite) {
            broken[*index].store(true, Ordering::Relaxed);
        }
    });
    match broken.iter().position(|b| b.load(Ordering::Relaxed)) {
        Some(index) => Err(Error::NotFinite { name: copies[index].name.clone() }),
        None => Ok(()),
    }
}

/// Row or panel `n` of a tensor, into its zeroed lines.
fn copy_unit(copy: &Copy<'_>, n: usize, to: &mut [Line]) {
    match copy.form {
        Form::Rows { width } => {
            let mut row = vec![0.0; width];
            copy.tensor.elements.read(n * width, &mut row);
            for (line, row) in to.iter_mut().zip(row.chunks(LANES)) {
                line.0[..row.len()].copy_from_slice(row);
            }
        }
        Form::Panels { inputs, outputs } => {
            let first = n * PANEL;
            let width = PANEL.min(outputs - first);
            let mut row = [0.0; PANEL];
            for k in 0..inputs {
                copy.tensor.elements.read(k * outputs + first, &mut row[..width]);
                for (line, row) in
                    to[k * (PANEL / LANES)..].iter_mut().zip(row.as_chunks::<LANES>().0)
                {
                    line.0 = *row;
                }
            }
        }
        Form::Transposed { inputs, outputs } => {
            let mut column = vec![0.0; inputs];
            for j in 0..PANEL.min(outputs - n * PANEL) {
                copy.tensor.elements.read((n * PANEL + j) * inputs, &mut column);
                for (k, &x) in column.iter().enumerate() {
                    to[k * (PANEL / LANES) + j / LANES].0[j % LANES] = x;
                }
            }
        }
    }
}
